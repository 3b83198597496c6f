"""Pages in a browser: what they may ask of the monitor and of a gateway, and what not."""

import pytest

from tests.harness.scenes import encoded

APP = "https://app.example.org"
CROSS = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document"}
PICTURE = encoded(".png", width=64, height=48, seed=61)
PAGES = {"monitor": "/status", "gateway": "/v1/status"}


@pytest.fixture(scope="module")
def strict(request, tmp_path_factory):
    from tests.integration.conftest import running
    for mesh in running(request, tmp_path_factory.mktemp("browsers")):
        mesh.start(gateway={"hosts_allowed": "features.example.org", "cors_origins": APP},
                   monitor={"hosts_allowed": "watch.example.org, watch", "cors_origins": APP})
        yield mesh


def status(mesh, service, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return mesh.request("GET", PAGES[service], headers=headers, service=service).status


@pytest.mark.parametrize("service, own", [("monitor", "WATCH.example.org:8081"),
                                          ("gateway", "features.example.org")])
def test_a_name_that_is_not_ours_is_refused(strict, service, own):
    for host in (own, "localhost:1", "127.0.0.1", "127.8.8.8:80", "[::1]:8081", "localhost."):
        assert status(strict, service, Host=host) == 200, host
    for host in ("evil.example", "evil.example:8081", "watch.example.org.evil.example",
                 "127.0.0.1.evil.example", "10.1.2.3", "[2001:db8::1]", "", "*"):
        answer = strict.request("GET", PAGES[service], headers={"Host": host}, service=service)
        assert answer.status == 403, host
        assert answer.json()["code"] == "forbidden" and b"hosts_allowed" in answer.body
        assert f'the Host "{host}" is none' in answer.json()["detail"]


def test_by_default_the_monitor_has_its_names_and_the_gateway_any(mesh):
    mesh.start(services=["broker", "monitor", "gateway"])
    assert status(mesh, "monitor", Host="rebound.example:8081") == 403
    assert status(mesh, "monitor", Host=f"127.0.0.1:{mesh.port('monitor')}") == 200
    assert status(mesh, "gateway", Host="features.example.org") == 200


def test_on_all_addresses_any_address_is_ours(mesh):
    mesh.start(services=["broker", "monitor"], monitor={"listen": "0.0.0.0:0"})
    assert status(mesh, "monitor", Host="10.1.2.3:8081") == 200
    assert status(mesh, "monitor", Host="rebound.example") == 403


@pytest.mark.parametrize("service", ["monitor", "gateway"])
def test_a_page_of_another_site_is_refused(strict, service):
    assert status(strict, service, **CROSS) == 403
    assert status(strict, service, **CROSS, Origin="https://evil.example") == 403
    assert status(strict, service, **CROSS, Origin="null") == 403
    assert status(strict, service, **CROSS, Origin=APP + ".evil.example") == 403
    assert status(strict, service, **{**CROSS, "Sec-Fetch-Mode": "no-cors",
                                      "Sec-Fetch-Dest": "image"}) == 403
    for site in ("same-origin", "same-site", "none"):
        assert status(strict, service, **{"Sec-Fetch-Site": site}) == 200


def test_a_picture_of_another_site_s_page_is_refused(strict):
    answer = strict.post("/v1/features", PICTURE, headers=CROSS)
    assert answer.status == 403 and b"cors_origins" in answer.body
    form = {**LINK, "Content-Type": "multipart/form-data; boundary=x"}
    assert strict.post("/v1/features", PICTURE, headers=form).status == 403


@pytest.mark.parametrize("service", ["monitor", "gateway"])
def test_without_fetch_metadata_the_origin_tells_the_site(strict, service):
    """Browsers send none to http://10.0.0.5:8080, which is no trustworthy URL to them."""
    own = f"127.0.0.1:{strict.port(service)}"
    assert status(strict, service, Origin="http://evil.example") == 403
    assert status(strict, service, Origin="null") == 403
    assert status(strict, service, Origin="http://127.0.0.1:1", Host=own) == 403
    assert status(strict, service, Origin=f"http://{own}", Host=own) == 200
    assert status(strict, service, Origin=f"https://{own}", Host=own) == 200  # TLS ended before us
    assert status(strict, service, Origin=APP) == 200


@pytest.mark.parametrize("service", ["monitor", "gateway"])
def test_a_link_from_another_site_is_followed(strict, service):
    assert status(strict, service, **LINK) == 200
    assert status(strict, service, **{**LINK, "Sec-Fetch-Dest": "iframe"}) == 403


@pytest.mark.parametrize("service, methods", [("monitor", "GET, HEAD"),
                                              ("gateway", "GET, HEAD, POST, PUT, DELETE")])
def test_the_pages_of_cors_origins_may_ask_and_read(strict, service, methods):
    preflight = strict.request("OPTIONS", PAGES[service], service=service, headers={
        **CROSS, "Origin": APP, "Access-Control-Request-Method": "GET"})
    assert preflight.status == 204 and preflight.body == b""
    assert preflight.headers["access-control-allow-origin"] == APP
    assert preflight.headers["access-control-allow-methods"] == methods
    assert "Content-Type" in preflight.headers["access-control-allow-headers"]
    answer = strict.request("GET", PAGES[service], service=service,
                            headers={**CROSS, "Origin": APP})
    assert answer.status == 200 and answer.headers["access-control-allow-origin"] == APP
    # Without an origin the answer still depends on it; and others get no word of it.
    plain = strict.request("GET", PAGES[service], service=service)
    assert "Origin" in plain.headers["vary"] and "access-control-allow-origin" not in plain.headers
    other = strict.request("OPTIONS", PAGES[service], service=service, headers={
        "Origin": "https://evil.example", "Access-Control-Request-Method": "GET"})
    assert other.status == 403 and "access-control-allow-origin" not in other.headers


def test_results_and_errors_tell_their_origin_too(strict):
    headers = {**CROSS, "Origin": APP}
    for body, want in ((PICTURE, 200), (b"GIF89a", 415), (b"", 400)):
        answer = strict.post("/v1/features", body, headers=headers)
        assert answer.status == want
        assert answer.headers["access-control-allow-origin"] == APP
        assert "ETag" in answer.headers["access-control-expose-headers"]
