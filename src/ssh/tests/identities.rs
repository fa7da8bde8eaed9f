//! What ssh_config(5) adds to a peer.

use std::fs;
use std::sync::Arc;

use super::login::Agent;
use super::*;
use crate::config::{AddressFamily, HostKeyPolicy, Reach, Unsaid};
use crate::ssh::test_sshd::{TestSshd, chmod, keygen};

fn reached(sshd: &TestSshd, reach: Reach) -> Peer {
    Peer { private_key: None, reach: Arc::new(reach), ..sshd.peer() }
}

#[tokio::test]
async fn the_files_of_ssh_config_are_offered_in_order_instead_of_the_default_keys() {
    let sshd = TestSshd::start();
    keygen(sshd.dir.path(), "stranger", "ed25519", "");
    let home = sshd.path("home");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    fs::copy(sshd.path("user"), home.join(".ssh/id_ed25519")).unwrap();
    chmod(&home.join(".ssh/id_ed25519"), 0o600);
    let sources = Sources { home: Some(home), ..Sources::default() };
    let fixture = Fixture::with(sshd.policy(), sources, LONG);
    let with = |files: &[&str]| Reach {
        identities: Some(files.iter().map(|name| sshd.path(name)).collect()),
        ..Reach::default()
    };
    let (stranger, absent, both) = (with(&["stranger"]), with(&["absent"]), with(&["absent", "stranger", "user"]));
    let error = fixture.fail(&reached(&sshd, stranger)).await.to_string();
    assert!(error.contains(&format!("did not accept: {} SHA256:", sshd.path("stranger").display())), "{error}");
    assert!(!error.contains("id_ed25519"), "{error}");
    let error = fixture.fail(&reached(&sshd, absent)).await.to_string();
    assert!(error.contains("no key to offer: neither an agent nor a file of ssh_config has one"), "{error}");
    assert!(error.contains("absent: No such file"), "{error}");
    fixture.run(&reached(&sshd, both), "true").await;
    fixture.run(&reached(&sshd, Reach::default()), "true").await;
    assert_eq!(sshd.logins(), 2);
}

#[tokio::test]
async fn a_public_half_names_a_key_of_the_agent() {
    let sshd = TestSshd::start();
    keygen(sshd.dir.path(), "stranger", "ed25519", "");
    let agent = Agent::start(sshd.dir.path());
    ["stranger", "user"].iter().for_each(|key| agent.add(&sshd.path(key)));
    fs::rename(sshd.path("user"), sshd.path("elsewhere")).unwrap();
    let fixture = Fixture::with(sshd.policy(), agent.1.clone(), LONG);
    let only = |name: &str| {
        reached(&sshd, Reach { identities: Some(vec![sshd.path(name)]), identities_only: true, ..Reach::default() })
    };
    fixture.run(&only("user.pub"), "true").await;
    fixture.run(&only("user"), "true").await;
    let error = fixture.fail(&only("stranger.pub")).await.to_string();
    assert_eq!(error.matches("SHA256:").count(), 1, "the agent's other key is not offered: {error}");
    let none = reached(&sshd, Reach { identities: Some(Vec::new()), ..Reach::default() });
    fixture.run(&none, "true").await;
}

#[tokio::test]
async fn the_host_that_is_dialled_and_its_alias_are_looked_up() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let named = Reach { host_name: Some("127.0.0.1".into()), ..Reach::default() };
    let nas = |reach: Reach| Peer { host: "nas".into(), reach: Arc::new(reach), ..sshd.peer() };
    fixture.run(&nas(named.clone()), "true").await;

    let aliased = nas(Reach { host_key_alias: Some("the-nas".into()), ..named });
    let error = fixture.fail(&aliased).await.to_string();
    assert!(error.starts_with("host key of the-nas is not known"), "{error}");
    let keyscan = format!("`ssh-keyscan -p {} 127.0.0.1 | sed 's/^[^ ]*/the-nas/' >> ", sshd.port);
    assert!(error.contains(&keyscan) && error.contains(&format!("`ssh -p {} root@nas`", sshd.port)), "{error}");
    fs::write(sshd.path("known_hosts"), format!("the-nas {}", sshd.public_key("host_ed25519"))).unwrap();
    fixture.run(&aliased, "true").await;
}

#[tokio::test]
async fn files_and_times_of_ssh_config_hold_where_the_configuration_has_none() {
    let sshd = TestSshd::start();
    let reach = Reach {
        known_hosts: Some(vec![sshd.path("known_hosts")]),
        connect_timeout: Some(Duration::from_secs(7)),
        ..Reach::default()
    };
    let peer = Peer { reach: Arc::new(reach), ..sshd.peer() };
    let own = SshPolicy { known_hosts: vec![sshd.path("absent")], ..sshd.policy() };
    let left = SshPolicy { unsaid: Unsaid { connect_timeout: true, known_hosts: true }, ..own.clone() };
    assert_eq!(Fixture::new(own.clone()).fail(&peer).await.reason(), "host_key");
    Fixture::new(left.clone()).run(&peer, "true").await;
    assert_eq!(
        (own.connect_timeout_of(&peer), left.connect_timeout_of(&peer)),
        (own.connect_timeout, Duration::from_secs(7))
    );
    let accepting = SshPolicy { host_key_policy: HostKeyPolicy::AcceptNew, ..left };
    fs::write(sshd.path("known_hosts"), "").unwrap();
    Fixture::new(accepting).run(&peer, "true").await;
    assert!(fs::read_to_string(sshd.path("known_hosts")).unwrap().contains("ssh-ed25519"));
    assert!(!sshd.path("absent").exists());
}

#[tokio::test]
async fn addresses_of_the_other_family_are_not_tried() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let of = |address_family| Peer { reach: Arc::new(Reach { address_family, ..Reach::default() }), ..sshd.peer() };
    fixture.run(&of(AddressFamily::V4), "true").await;
    let error = fixture.fail(&of(AddressFamily::V6)).await;
    assert!(crate::error_chain(&error).contains("no address that can be used"), "{error}");
}
