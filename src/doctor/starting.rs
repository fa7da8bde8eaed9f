//! What the director takes at its start: the socket, and the port of metrics, which another may have, or this instance.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use super::HERE;
use super::finding::{Check, Finding};
use crate::config::Config;
use crate::control;

/// The longest path of a socket (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Looks at both.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let socket = control::path(config);
    let shown = socket.display();
    let runs = match UnixStream::connect(&socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    let control = if runs {
        Finding::ok(Check::ControlSocket, HERE, format!("the instance runs and listens on {shown}"))
    } else if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let text = format!(
            "{shown} is longer than the {SOCKET_PATH_MAX} bytes that a socket's path may have: `status` would not work"
        );
        Finding::warn(Check::ControlSocket, HERE, text, "use a shorter `pid_file_dir`")
    } else {
        Finding::ok(Check::ControlSocket, HERE, format!("the instance does not run; {shown} is free"))
    };
    vec![control, port(config, runs)]
}

fn port(config: &Config, runs: bool) -> Finding {
    let address = SocketAddr::new(config.metrics.addr, config.metrics.port);
    match TcpListener::bind(address) {
        _ if address.port() == 0 => Finding::ok(Check::MetricsPort, HERE, "the kernel chooses a port for metrics"),
        Ok(_) => Finding::ok(Check::MetricsPort, HERE, format!("{address} is free for metrics")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
            Finding::ok(Check::MetricsPort, HERE, format!("{address} is in use, while this instance runs"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let fix = format!("set `metrics.port`; `ss -ltnp 'sport = :{}'` tells who has it", address.port());
            Finding::fail(Check::MetricsPort, HERE, format!("another program listens on {address}"), fix)
        }
        Err(error) => {
            let text = format!("metrics cannot be served on {address}: {error}");
            Finding::fail(Check::MetricsPort, HERE, text, "mend `metrics.addr` or `metrics.port`")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_port_that_another_has_fails_and_that_of_the_running_instance_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port_of = taken.local_addr().expect("its address").port();
        let text = format!(
            "rsync_id: x\ncron_schedule: '@daily'\nmetrics: {{addr: 127.0.0.1, port: {port_of}}}\njobs: [{{id: j, type: local, actions: [{{action: command, id: c, command: x}}]}}]\n"
        );
        let config = crate::config::parse(Path::new("x.yaml"), &text, &|_| Some("/root".into())).expect("valid").config;
        let fails = port(&config, false).to_string();
        assert!(fails.starts_with("fail  here  metrics-port: another program listens on 127.0.0.1:"), "{fails}");
        assert!(fails.contains("set `metrics.port`"), "{fails}");
        assert!(port(&config, true).to_string().starts_with("ok "));
        drop(taken);
        assert!(port(&config, false).to_string().contains("is free for metrics"));
    }
}
