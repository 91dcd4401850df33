"""Which endpoint of a host is taken, and how often a login is tried."""

import contextlib
import pathlib
import socket

import pytest

import mailhost_follow
import mailhost_ssh
from mailhost_endpoint import Endpoint, Host

HOST = Host("mail", ("203.0.113.5", "2001:db8::5"), "prod")
VPN = Endpoint("10.100.0.25", 2288, "ada", "VPN")
FINISHED = [Endpoint(address, 2288, "ada", "public") for address in HOST.addresses]
FIRST = [Endpoint(address, 22, "ada", "public") for address in HOST.addresses]
ROOT = [Endpoint(address, 22, "root", "public") for address in HOST.addresses]
WAYS = [VPN, *FINISHED, *FIRST, *ROOT]
REFUSED = "ada@203.0.113.5: Permission denied (publickey)."


class Sshd:
    """A host of which the test says what each endpoint answers; the logins are noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: pathlib.Path, /, **answers: str) -> None:
        """Params: answers by user, "" lets in; closed ports by "p<number>"."""
        self.place, self.answers, self.tried = place, answers, list[Endpoint]()
        monkeypatch.setattr(mailhost_ssh, "open_ports", self.ports)

    def ports(self, endpoints: list[Endpoint]) -> dict[tuple[str, int], str]:
        closed = {way: self.answers.get(f"p{way.port}", "") for way in endpoints}
        return {
            (way.address, way.port): "no answer in 3 s" if way.network == "VPN" else closed[way] for way in endpoints
        }

    def enter(self, endpoint: Endpoint) -> str:
        self.tried.append(endpoint)
        return self.answers[endpoint.user]

    def find(self) -> Endpoint:
        self.tried.clear()
        return mailhost_ssh.find(self.place, HOST, WAYS, self.enter)


def test_a_fresh_host_is_one_failed_login_away_and_none_from_then_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    sshd = Sshd(monkeypatch, tmp_path, p2288="connection refused", ada=REFUSED, root="")
    assert sshd.find() == ROOT[0]
    assert sshd.tried == [FIRST[0], ROOT[0]]
    assert sshd.find() == ROOT[0]
    assert sshd.tried == [ROOT[0]]


def test_a_key_that_opens_nothing_is_one_failed_login_for_each_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    sshd = Sshd(monkeypatch, tmp_path, ada=REFUSED, root=REFUSED.replace("ada", "root"))
    with pytest.raises(mailhost_ssh.Unreachable) as caught:
        sshd.find()
    assert sshd.tried == [FINISHED[0], ROOT[0]]
    assert str(caught.value).splitlines() == [
        "mail: no endpoint lets us in",
        "  ada@10.100.0.25:2288 (VPN): no answer in 3 s",
        f"  ada@203.0.113.5:2288 (public): {REFUSED}",
        "  root@203.0.113.5:22 (public): root@203.0.113.5: Permission denied (publickey).",
    ]


@pytest.mark.parametrize("said", ["no answer to the login", "sudo: a password is required", "Connection reset by peer"])
def test_what_is_no_refusal_is_tried_by_the_other_endpoints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, said: str
) -> None:
    sshd = Sshd(monkeypatch, tmp_path, ada=said, root="")
    assert sshd.find() == ROOT[0]
    assert sshd.tried == [*FINISHED, *FIRST, ROOT[0]]


@pytest.mark.parametrize("text", ["", "[", "null", "7", '["203.0.113.5", 22]'])
def test_a_damaged_memory_is_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, text: str) -> None:
    memory = tmp_path / ".salt/endpoints/mail.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(text)
    assert Sshd(monkeypatch, tmp_path, ada="", root="").find() == FINISHED[0]


WAY = {"user": "ada", "addresses": ["203.0.113.5", "2001:db8::5"], "port": 2288, "token": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("answers", "logins"),
    [
        (["connection refused", "connection refused", ""], 3),
        ([REFUSED], 1),
        ([""], 1),
    ],
    ids=["opens late", "refused", "at once"],
)
def test_a_new_way_is_tried_until_it_works_or_sshd_refuses(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    answers: list[str],
    logins: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    done: list[Endpoint] = []

    def new_login(options: object, endpoint: Endpoint, *words: str) -> str:
        done.append(endpoint)
        return answers[min(len(done), len(answers)) - 1]

    monkeypatch.setattr(mailhost_ssh, "new_login", new_login)
    follower = mailhost_follow.Follower({"ssh_options": [], "host": "203.0.113.5", "port": 22, "user": "root"}, "mail")
    for _ in range(5):
        follower._confirm(WAY)
    assert len(done) == logins
    # Once and no more, however often it is asked.
    expected = [f"mail: login as {done[0]}: {REFUSED}"] if REFUSED in answers else []
    assert [line for line in capsys.readouterr().err.splitlines() if "denied" in line] == expected


class Ways:
    """Endpoints of which some take connections, and the others never answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answering: bool) -> None:
        """Params: answering, for each endpoint, in the order they are wanted, whether it does; its network by name."""
        monkeypatch.setattr(mailhost_ssh, "HEAD_START_SECONDS", 0.05)
        monkeypatch.setattr(mailhost_ssh, "CONNECT_SECONDS", 0.1)
        self.wanted = {(name, 22): "VPN" if name == "vpn" else "public" for name in answering}
        self.pairs = [socket.socketpair() for _ in answering]
        for answers, (mine, _) in zip(answering.values(), self.pairs, strict=True):
            mine.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while not answers and mine.send(bytes(65536)):
                    pass

    def wait(self) -> dict[str, str]:
        pending = dict(zip(self.wanted, [mine for mine, _ in self.pairs], strict=True))
        found = mailhost_ssh._wait(self.wanted, pending, {})
        for _, other in self.pairs:
            other.close()
        return {name: answer for (name, _), answer in found.items()}


def test_the_vpn_has_a_head_start_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ways(monkeypatch, vpn=False, public=True).wait() == {"vpn": "no answer in 0.05 s", "public": ""}
    assert Ways(monkeypatch, vpn=False, public=False).wait() == dict.fromkeys(("vpn", "public"), "no answer in 0.1 s")


def test_what_comes_after_the_first_that_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall drops what goes to the port that sshd has left."""
    assert Ways(monkeypatch, vpn=True, public=False).wait() == {"vpn": ""}
    assert Ways(monkeypatch, first=True, second=False).wait() == {"first": ""}


def test_an_endpoint_that_was_left_out_is_asked_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    sshd = Sshd(monkeypatch, tmp_path, ada=REFUSED, root="")
    asked = []

    def ports(endpoints: list[Endpoint]) -> dict[tuple[str, int], str]:
        asked.append(endpoints[0])
        known = {(way.address, way.port): "no answer in 1 s" for way in endpoints if way.network == "VPN"}
        public = next(way for way in endpoints if way.network == "public")
        return {**known, (public.address, public.port): ""}

    monkeypatch.setattr(mailhost_ssh, "open_ports", ports)
    assert sshd.find() == ROOT[0]
    assert asked == [VPN, ROOT[0]]
