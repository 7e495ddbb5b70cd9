"""`deploy/prune_botocore.py`: with what it leaves of botocore's data, Connect is found and asked as before."""

import runpy
import shutil
from pathlib import Path

import botocore
import pytest
from monitor_contact_service.aws import new_session
from monitor_contact_service.endpoint import resolve_endpoint

_SCRIPT = Path(__file__).parents[2] / "deploy" / "prune_botocore.py"
_DATA = Path(botocore.__file__).parent / "data"


@pytest.mark.parametrize("fips", ["false", "true"])
def test_what_is_left_says_the_same_of_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fips: str) -> None:
    """The endpoint, what it is signed for and the user agent; the model is a hundredth of what it was."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", fips)
    expected = resolve_endpoint(new_session())
    model = "connect/2017-08-08/service-2.json.gz"
    for service in ("connect", "s3"):
        shutil.copytree(_DATA / service, tmp_path / service)
    runpy.run_path(str(_SCRIPT))["prune"](tmp_path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["connect"]
    assert (tmp_path / model).stat().st_size < (_DATA / model).stat().st_size / 50
    session = new_session()
    session.set_config_variable("data_path", str(tmp_path))
    assert session.get_component("data_loader").load_service_model("connect", "service-2")["operations"].keys() == {
        "MonitorContact"
    }
    assert resolve_endpoint(session) == expected
