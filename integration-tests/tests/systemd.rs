//! The program as a service of a real systemd: a booted machine each, with the unit and its drop-ins installed.

use integration_tests::{Lan, Machine};

#[test]
fn a_machine_boots_and_keeps_its_files_over_a_reboot_and_a_power_cut() {
    let Some(machine) = Machine::boot("box") else { return };
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    machine.write("/srv/kept", "1");
    let boot = machine.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic");
    machine.reboot();
    assert_eq!(machine.read("/srv/kept"), "1");
    machine.cut_power();
    assert_eq!(machine.read("/srv/kept"), "1");
    let after = machine.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic");
    assert_ne!(after, boot);
    assert_eq!(machine.run("exit 7").status.code(), Some(7));
}

#[test]
fn machines_of_a_network_reach_each_other() {
    let lan = Lan::enter();
    let (Some(one), Some(two)) = (Machine::boot_in(&lan, "one"), Machine::boot_in(&lan, "two")) else { return };
    let line =
        format!("/usr/bin/python3 -c 'import socket; socket.create_connection((\"{}\", 7000), 5)'", two.address());
    two.sh("systemd-run --quiet /usr/bin/python3 -m http.server 7000");
    one.until(&line);
}
