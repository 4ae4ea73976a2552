"""Models without measurements on real workers: measured in startup, and while others are served."""

import numpy as np
from live.system import System
from live.zoo import Zoo

import clockwork
from clockwork.messages.models import ModelProfile

SLO_MS = 30_000
IMAGE = np.zeros((1, 8, 8), np.float32)


def times_of(client: clockwork.Client, name: str = "digits") -> ModelProfile:
    """Return what the controller says about a model."""
    return client.model(name).profile


def test_a_model_is_measured_in_startup(system: System, zoo: Zoo) -> None:
    """Every batch size has a time that grows with it, and so has the load; all works then."""
    system.worker("--weights-cache-size=64MiB")
    controller = system.controller()
    client = system.connect()
    loaded = client.load_model(str(zoo.directory("digits")))
    assert set(loaded.profile.exec_ns) == {0}
    profile = times_of(client)
    assert profile.batch_sizes == loaded.profile.batch_sizes
    assert min(profile.exec_ns) > 0
    assert profile.load_ns > 0
    controller.wait_for(r"\(Startup-6\) ProfilingStage has begun: 1 models have no measurements")
    controller.wait_for(r"Profiled M-0 src=\S+/digits .* b1=\d+\.\d b2=")
    controller.wait_for(r"\(Startup-6\) ProfilingStage complete")
    assert client.model("digits").infer(IMAGE, slo_ms=SLO_MS)["scores"].shape == (10,)


def test_a_model_is_measured_while_others_are_served(system: System, zoo: Zoo) -> None:
    """LoadModel is answered with the times; requests for others succeed meanwhile."""
    system.worker("--weights-cache-size=64MiB")
    controller = system.controller()
    client = system.connect()
    digits = client.load_model(str(zoo.directory("digits")))
    client.models()
    futures = [digits.infer_async(IMAGE, slo_ms=SLO_MS) for _ in range(50)]
    squeezenet = client.load_model(str(zoo.directory("squeezenet")))
    futures += [digits.infer_async(IMAGE, slo_ms=SLO_MS) for _ in range(50)]
    assert min(squeezenet.profile.exec_ns) > 0
    assert squeezenet.profile.load_ns > 0
    controller.wait_for(r"Profiled M-1 src=\S+/squeezenet")
    assert all(future.result()["scores"].shape == (10,) for future in futures)
    spec = squeezenet.inputs[0]
    squeezenet.infer(np.zeros(spec.shape, spec.dtype), slo_ms=SLO_MS)


def test_a_worker_that_makes_no_inputs_up_gets_some(system: System, zoo: Zoo) -> None:
    """Its refusal of empty inputs is no reason not to measure."""
    system.worker("--weights-cache-size=64MiB", "--allow-zero-size-inputs=0")
    system.controller()
    client = system.connect()
    client.load_model(str(zoo.directory("digits")))
    assert min(times_of(client).exec_ns) > 0


def test_measuring_can_be_switched_off(system: System, zoo: Zoo) -> None:
    """Then the first requests teach the controller."""
    system.worker("--weights-cache-size=64MiB")
    controller = system.controller("--profile-models=0")
    client = system.connect()
    client.load_model(str(zoo.directory("digits")))
    assert set(times_of(client).exec_ns) == {0}
    assert "Profil" not in controller.output
    client.model("digits").infer(IMAGE, slo_ms=SLO_MS)
