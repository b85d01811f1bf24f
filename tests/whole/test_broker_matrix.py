"""One promise over brokers of several makes. Clusters of NATS and RabbitMQ are tried in `make soak`."""

from pathlib import Path

import pytest

from tests.broker import running_broker
from tests.broker_matrix import over_broker


@pytest.mark.slow
@pytest.mark.parametrize("make", ["mosquitto", "rumqttd"])
def test_a_broker_that_dies_in_mid_run_costs_nothing(make: str, mosquitto: None, tmp_path: Path) -> None:
    with running_broker(mosquitto=make == "mosquitto") as broker:
        truth = over_broker(tmp_path, broker, seed=1, deaths=1)
    assert truth.passed, truth
    assert truth.accepted > 0
