"""A page in headless Chromium, driven through the pipe of its DevTools protocol: real clicks and keys, and no driver to
install."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
CENTRE = """{ const e = document.querySelector(%s); e.scrollIntoView({block: "center"});
const box = e.getBoundingClientRect(); [box.x + box.width / 2, box.y + box.height / 2] }"""


class Browser:
    """One tab. `requested` are the addresses that it has asked for."""

    def __init__(self, profile: Path) -> None:
        wired = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'  # where Chromium reads and answers
        command = ["sh", "-c", wired, "sh", CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.calls, self.session, self.requested = 0, {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.call("Network.enable")

    def close(self) -> None:
        self.call("Browser.close")
        self.process.communicate(timeout=30)

    def _next(self) -> dict:
        found = bytearray()
        while (byte := self.process.stdout.read(1)) not in (b"\0", b""):
            found += byte
        said = json.loads(found)
        if said.get("method") == "Network.requestWillBeSent":
            self.requested.append(said["params"]["request"]["url"])
        return said

    def call(self, method: str, **params) -> dict:
        self.calls += 1
        said = json.dumps({"id": self.calls, "method": method, "params": params} | self.session)
        self.process.stdin.write(said.encode() + b"\0")
        self.process.stdin.flush()
        while (answer := self._next()).get("id") != self.calls:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self.value("document.readyState") != "complete":
            pass

    def value(self, script: str) -> object:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, selector: str) -> None:
        x, y = self.value(CENTRE % json.dumps(selector))
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, **more) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def screenshot(self, file: Path, whole: bool = True) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))
