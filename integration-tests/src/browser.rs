//! A real browser: headless Chromium, driven by its `chromedriver` over WebDriver (W3C), as far as the tests need it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64ct::{Base64, Encoding};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::procs;
use crate::wait::{self, DEADLINE};

/// Where pictures for people are left, below the workspace.
const SCREENSHOTS: &str = "../target/screenshots";

/// A browser with one tab. Dropping it ends it.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    profile: TempDir,
}

/// Whether pages may run scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// They may.
    On,
    /// They may not, as with a blocker.
    Off,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// When `chromium` or `chromedriver` is missing: `./test` installs them.
    pub fn start(scripts: Scripts) -> Self {
        let mut command = Command::new("chromedriver");
        let command = command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().unwrap_or_else(|error| panic!("chromedriver: {error}"));
        let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let port =
            lines.find_map(|line| line.rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let address = (Ipv4Addr::LOCALHOST, port.expect("chromedriver tells its port")).into();
        let profile = tempfile::Builder::new().prefix("rd-browser").tempdir_in("/tmp").expect("a directory");
        let mut browser = Self { driver, address, session: String::new(), profile };
        let profile = format!("--user-data-dir={}", browser.profile.path().display());
        let setting = if scripts == Scripts::On { 1 } else { 2 };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
                     "--hide-scrollbars", "--window-size=1280,900", profile],
            "prefs": {"profile.managed_default_content_settings.javascript": setting},
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}});
        let session = browser.ask("POST", "/session", &wanted).expect("a session");
        browser.session = session["sessionId"].as_str().expect("its id").to_owned();
        browser
    }

    /// Goes to a page.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// What a script in the page returns; this works also where pages may not run scripts.
    #[track_caller]
    pub fn eval(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of an element as a person sees it; empty when there is none.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        self.eval(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a text in an element.
    #[track_caller]
    pub fn wait_for_text(&self, selector: &str, text: &str) {
        let found = wait::within(DEADLINE, || self.text(selector).contains(text).then_some(()));
        assert!(found.is_some(), "no {text:?} in {selector}: {:?}", self.text(selector));
    }

    /// Presses keys, one after the other, where the keyboard is; `\u{e004}` is Tab, `\u{e007}` Enter (WebDriver, 17.4.2).
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let press = |key: char| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}));
        let presses: Vec<Value> = keys.chars().flat_map(press).collect();
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": presses}]}));
    }

    /// What the browser complained of since it was asked last.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({"type": "browser"}));
        let text = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().into_iter().flatten().map(text).collect()
    }

    /// Makes the window that wide (in CSS pixels), and dark or light, as the system would ask for.
    #[track_caller]
    pub fn look(&self, width: u32, dark: bool) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": if width < 500 { 2 } else { 1 }, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
    }

    /// Leaves a picture of the whole page in `target/screenshots`.
    #[track_caller]
    pub fn screenshot(&self, name: &str) {
        let answer = self.devtools("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let picture = Base64::decode_vec(answer["data"].as_str().expect("a picture")).expect("base64");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCREENSHOTS);
        std::fs::create_dir_all(&directory).expect("the directory");
        std::fs::write(directory.join(format!("{name}.png")), picture).expect("the picture");
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    #[track_caller]
    fn command(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        self.ask("POST", &path, body).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect_timeout(&self.address, DEADLINE)?;
        stream.set_read_timeout(Some(2 * DEADLINE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = Vec::new();
        read_answer(&mut BufReader::new(stream), &mut answer)?;
        let answer: Value = serde_json::from_slice(&answer)?;
        match answer["value"]["error"].as_str() {
            None => Ok(answer["value"].clone()),
            Some(error) => Err(io::Error::other(format!("{error}: {}", answer["value"]["message"]))),
        }
    }
}

/// Reads the body of an answer, whose length its head tells.
fn read_answer(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    stream.take(length).read_to_end(body).map(drop)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver alone would leave it.
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // One that did not end, and the helpers of any; only then is its directory nobody's.
        let _ = wait::within(DEADLINE, || {
            let left = procs::mentioning(self.profile.path());
            left.iter().for_each(|left| procs::signal(left.pid, Signal::KILL));
            left.is_empty().then_some(())
        });
    }
}
