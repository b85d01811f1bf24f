# In the machine: runs the gateway, as a system would that has a clock, udev and a shell. What it is to run stands in
# front of this (see machine.py); what comes over the console are names of signals for it.
site=$(dirname "$0")
cd "$CWD" || exit 1
# The clock of the machine around it, as an NTP daemon would set it: the time at which it writes a file.
: >"$site/now" && date --set "@$(stat --format %.9Y "$site/now")" >/dev/null
ln -s ttyUSB0 /dev/numbered0
ln -s ttyUSB1 /dev/numbered1
# udev's lasting names of serial adapters: by where they are plugged in.
(
  mkdir -p /dev/serial/by-path
  while :; do
    for tty in /sys/bus/usb-serial/devices/*; do
      [ -e "$tty" ] || continue
      interface=$(basename "$(dirname "$(readlink -f "$tty")")")
      ln -sfn "/dev/$(basename "$tty")" "/dev/serial/by-path/usb-${interface%%:*}"
    done
    for name in /dev/serial/by-path/*; do [ -e "$name" ] || rm -f "$name"; done
    sleep 0.2
  done
) &
udev=$!
# Loopback of the machine around it is 10.0.2.2.
socat "TCP-LISTEN:$BROKER_PORT,bind=127.0.0.1,fork,reuseaddr" "TCP:10.0.2.2:$BROKER_PORT" &
socat "TCP-LISTEN:$STATUS_PORT,fork,reuseaddr" "UNIX-CONNECT:$SOCKET" 2>/dev/null &
# shellcheck disable=SC2086
PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c 'from field.main import main; main()' $ARGUMENTS &
gateway=$!
(while read -r name; do kill -s "$name" $gateway; done) </dev/ttyS0 &
wait $gateway
echo $? >"$site/ended"
kill $udev
sync
