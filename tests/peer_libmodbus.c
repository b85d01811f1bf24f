/* A Modbus meter made of Debian's libmodbus: peer_libmodbus tcp:PORT|TTY UNIT input|holding KIND:REGISTER:VALUE...
 *
 * Registers from 0 to the last that was told are there (0 where nothing was told); the library refuses what goes beyond
 * with exception 02. Values are put into registers by the library's own macros, high word first. Prints `ready`.
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    return 1;
}

static void set(uint16_t *registers, int at, const char *kind, const char *value)
{
    if (strcmp(kind, "FLOAT32") == 0) {
        /* Not modbus_set_float_abcd: the library of Debian 12 (3.1.6) puts its bytes the other way round. */
        const float number = strtof(value, NULL);
        uint32_t bits;
        memcpy(&bits, &number, sizeof bits);
        MODBUS_SET_INT32_TO_INT16(registers, at, bits);
    } else if (strcmp(kind, "UINT32") == 0 || strcmp(kind, "INT32") == 0)
        MODBUS_SET_INT32_TO_INT16(registers, at, (uint32_t)strtoll(value, NULL, 10));
    else
        registers[at] = (uint16_t)strtol(value, NULL, 10);
}

/* Answers one client until it goes away. What is no question, or is for another unit, is passed over. */
static void answer(modbus_t *context, modbus_mapping_t *meter)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(context, query);
        if (length > 0)
            modbus_reply(context, query, length, meter);
        else if (length == -1 && (errno == ECONNRESET || errno == EIO))
            return;
    }
}

int main(int count, char **words)
{
    if (count < 5)
        return 2;
    const int tcp = strncmp(words[1], "tcp:", 4) == 0, unit = atoi(words[2]);
    int size = 0;
    for (int n = 4; n < count; n++) {
        const char *at = strchr(words[n], ':') + 1;
        const int end = atoi(at) + (strstr(words[n], "32:") ? 2 : 1);
        size = end > size ? end : size;
    }
    const int input = strcmp(words[3], "input") == 0;
    modbus_mapping_t *meter = modbus_mapping_new(0, 0, input ? 0 : size, input ? size : 0);
    if (meter == NULL)
        return fail("mapping");
    for (int n = 4; n < count; n++) {
        char *kind = strtok(words[n], ":"), *at = strtok(NULL, ":"), *value = strtok(NULL, ":");
        set(input ? meter->tab_input_registers : meter->tab_registers, atoi(at), kind, value);
    }
    modbus_t *context = tcp ? modbus_new_tcp("127.0.0.1", atoi(words[1] + 4)) : modbus_new_rtu(words[1], 9600, 'N', 8, 1);
    if (context == NULL || modbus_set_slave(context, unit) == -1)
        return fail("context");
    if (!tcp) {
        if (modbus_connect(context) == -1)
            return fail("connect");
        puts("ready");
        fflush(stdout);
        answer(context, meter);
        return fail("hung up");
    }
    int listener = modbus_tcp_listen(context, 4);
    if (listener == -1)
        return fail("listen");
    puts("ready");
    fflush(stdout);
    while (modbus_tcp_accept(context, &listener) != -1) {
        answer(context, meter);
        modbus_close(context);
    }
    return fail("accept");
}
