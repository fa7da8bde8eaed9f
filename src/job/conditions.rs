//! Whether what a job's `when` asks for holds.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::action::Runner;
use crate::config::{Command, Condition};
use crate::event::ExitStatus;
use crate::patient;
use crate::process::{EndedBy, Exit, OutputSink, Spec, Stop, Stream};

/// A file system that does not answer within this time is not there.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// A command that asks whether a job shall run must answer within this time.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The first condition that does not hold, as a sentence for people. An answer that cannot be had counts as no.
pub(super) async fn unmet(conditions: &[Condition], runner: &Runner, stop: &Stop) -> Option<String> {
    for condition in conditions {
        let found = tokio::select! {
            found = judge(condition, runner, stop) => found,
            // What comes next sees that the job is to end.
            () = stop.term.cancelled() => return None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

async fn judge(condition: &Condition, runner: &Runner, stop: &Stop) -> Option<String> {
    match condition {
        Condition::Mounted(path) => mounted(path).await,
        Condition::Reachable(peer) => {
            let error = runner.pool.warm(peer).await.err()?;
            Some(format!("{peer} is not reachable: {}", crate::error_chain(&error)))
        }
        Condition::OnAcPower => match is_on_ac_power(Path::new("/sys/class/power_supply")) {
            Ok(true) => None,
            Ok(false) => Some("the host runs on battery".to_owned()),
            Err(error) => Some(format!("it cannot be told whether the host runs on battery: {error}")),
        },
        Condition::Command(command) => ask(command, runner, stop).await,
    }
}

async fn mounted(path: &Path) -> Option<String> {
    let shown = path.display();
    let owned = path.to_owned();
    let look = patient::look(vec![path.to_owned()], move || {
        // A look into it makes an automounter mount it.
        let _ = fs::read_dir(&owned);
        let path = fs::canonicalize(&owned)?;
        let table = fs::read("/proc/self/mountinfo")?;
        Ok::<_, io::Error>(is_mount_point(&table, &path))
    });
    match tokio::time::timeout(MOUNT_TIMEOUT, look).await {
        Ok(Ok(Ok(true))) => None,
        Ok(Ok(Ok(false))) => Some(format!("nothing is mounted at {shown}")),
        Ok(Ok(Err(error))) => Some(format!("nothing is mounted at {shown}: {error}")),
        Ok(Err(_)) | Err(_) => Some(format!("{shown} does not answer")),
    }
}

/// Whether the table (proc(5): `mountinfo`) says that a file system is mounted there. What waits to be mounted (autofs) is none.
fn is_mount_point(table: &[u8], path: &Path) -> bool {
    let mut mounts = table.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = unescape(fields.nth(4)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some((point, kind))
    });
    mounts.any(|(point, kind)| point == path && kind != b"autofs")
}

/// A path of the table: space, tab, line feed and backslash are three octal digits there.
fn unescape(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// Whether a mains supply is online, or there is no battery (`Documentation/ABI/testing/sysfs-class-power` of the kernel).
fn is_on_ac_power(supplies: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(supplies) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries?,
    };
    let mut battery = false;
    for entry in entries {
        let file = |name| fs::read_to_string(entry.as_ref().map(|entry| entry.path().join(name)).unwrap_or_default());
        let word = |name| file(name).map(|text| text.trim().to_owned()).unwrap_or_default();
        match word("type").as_str() {
            "Mains" | "USB" if word("online") == "1" => return Ok(true),
            // One of a mouse or a keyboard has the scope `Device`.
            "Battery" if word("scope") != "Device" => battery = true,
            _ => {}
        }
    }
    Ok(!battery)
}

async fn ask(command: &Command, runner: &Runner, stop: &Stop) -> Option<String> {
    let (program, args) = command.argv();
    let spec = Spec {
        program: program.clone(),
        args,
        env: Vec::new(),
        stdin: None,
        cwd: None,
        kill_grace: runner.kill_grace,
        timeout: Some(COMMAND_TIMEOUT),
        stdout_every: None,
    };
    let shown = match command {
        Command::Shell(line) => line.to_string_lossy().into_owned(),
        Command::Exec { .. } => program.to_string_lossy().into_owned(),
    };
    match runner.spawner.run(&spec, stop, &mut Nobody).await {
        Ok(Exit { status: ExitStatus::Code(0), ended_by: EndedBy::Itself }) => None,
        Ok(Exit { ended_by: EndedBy::Timeout, .. }) => Some(format!("`{shown}` gave no answer within a minute")),
        Ok(Exit { status: ExitStatus::Code(code), .. }) => Some(format!("`{shown}` ended with exit code {code}")),
        Ok(Exit { status: ExitStatus::Signal(signal), .. }) => Some(format!("`{shown}` was ended by signal {signal}")),
        Err(error) => Some(crate::error_chain(&error)),
    }
}

/// Nobody wants to know what it prints.
struct Nobody;

impl OutputSink for Nobody {
    fn output(&mut self, _: Stream, _: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = br"26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 26 0:26 / /mnt/usb\040disk rw - vfat /dev/sdb1 rw
31 26 0:27 / /net rw shared:3 master:1 - autofs auto.net rw
";

    #[test]
    fn a_mount_point_is_one_of_the_table() {
        assert!(is_mount_point(TABLE, Path::new("/")));
        assert!(is_mount_point(TABLE, Path::new("/mnt/usb disk")));
        assert!(!is_mount_point(TABLE, Path::new("/mnt")));
        assert!(!is_mount_point(TABLE, Path::new("/net")));
    }

    #[test]
    fn power_is_judged_by_what_supplies_it() {
        let directory = tempfile::tempdir().unwrap();
        let supplies = directory.path();
        let supply = |name: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(supplies.join(name)).unwrap();
            files.iter().for_each(|(file, text)| fs::write(supplies.join(name).join(file), text).unwrap());
        };
        assert!(is_on_ac_power(&supplies.join("none")).unwrap());
        supply("mouse", &[("type", "Battery\n"), ("scope", "Device\n")]);
        assert!(is_on_ac_power(supplies).unwrap());
        supply("BAT0", &[("type", "Battery\n")]);
        assert!(!is_on_ac_power(supplies).unwrap());
        supply("AC", &[("type", "Mains\n"), ("online", "0\n")]);
        assert!(!is_on_ac_power(supplies).unwrap());
        supply("AC", &[("online", "1\n")]);
        assert!(is_on_ac_power(supplies).unwrap());
    }
}
