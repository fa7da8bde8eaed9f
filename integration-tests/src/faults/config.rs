//! The configuration of a contender, and the scripts that it runs.

use super::host::Host;
use super::plan::{Locks, Party, Setup, Way, Work};
use crate::sandbox::Sandbox;

/// The actions of a party, as YAML.
pub fn actions(sandbox: &Sandbox, host: &Host, name: &str, party: &Party) -> Vec<String> {
    let prepare = "n=$(cat @/$1.n 2>/dev/null || echo 0); n=$((n + 1)); echo $n >@/$1.n
rm -rf @/$1.out
for s in $2; do
    mkdir -p @/$1.out/$s
    echo >@/$1.out/$s/$1.$n.${s}a
    head -c 65536 /dev/zero >@/$1.out/$s/$1.$n.${s}b
    echo >@/$1.out/$s/$1.$n.${s}c
done";
    let mark = format!(
        "n=$(cat @/$1.n)\nmark() {{ echo $1.$n.$2 >>{journal}; : >{protected}/$1.$n.$2; sleep 0.1; }}",
        journal = host.journal().display(),
        protected = host.protected().display()
    );
    let prepare = sandbox.script("prepare", prepare);
    let script = sandbox.script("script", &format!("{mark}\nfor word in 1 2 3; do mark $1 $word; done"));
    let stubborn = sandbox
        .script("stubborn", &format!("trap '' TERM\n{mark}\nfor word in 1 2 3 4 5 6 7 8; do mark $1 $word; done"));
    let command = |id: &str, line: String| format!("{{action: command, id: {id}, command: '{line}'}}");
    let mut actions = Vec::new();
    match party.work {
        Work::Script | Work::Stubborn => {
            let program = if party.work == Work::Script { script } else { stubborn };
            actions.push(command("prepare", format!("{} {name} \"\"", prepare.display())));
            actions.push(command("work", format!("{} {name}", program.display())));
        }
        Work::Syncs { count, inplace } => {
            let words: Vec<String> = (1..=count).map(|word| word.to_string()).collect();
            actions.push(command("prepare", format!("{} {name} \"{}\"", prepare.display(), words.join(" "))));
            let options = if inplace { "-r, --bwlimit=150, --inplace" } else { "-r, --bwlimit=150" };
            for word in words {
                let (from, to) = (sandbox.path(format!("{name}.out/{word}")), host.protected().display());
                actions.push(format!(
                    "{{action: sync, id: s{word}, source: {}/, dest: {to}/, opts: [{options}]}}",
                    from.display()
                ));
            }
        }
    }
    actions
}

/// The configuration of the contender with this index: `peer` is the protected host as it sees it, unless it runs there.
pub fn of(host: &Host, setup: &Setup, index: usize, peer: Option<&str>, actions: &[String]) -> String {
    let party = &setup.contenders[index];
    let place = match (party.way, peer) {
        (Way::Exec | Way::Sftp, Some(peer)) => format!("type: remote, {peer}"),
        _ => "type: local".to_owned(),
    };
    let via = match party.way {
        Way::Local => "",
        Way::Exec => "via: exec, ",
        Way::Sftp => "via: sftp, ",
    };
    let files = |indices: Vec<usize>| {
        let wait = party.wait as f64 / 1000.0;
        let file = |&lock: &usize| format!("{{{place}, {via}path: {}, wait_time: {wait}}}", host.lock(lock).display());
        indices.iter().map(file).collect::<Vec<_>>().join(", ")
    };
    let (locks, blocks) = match setup.locks {
        Locks::Shared(count) => (files((0..count).collect()), String::new()),
        Locks::Mutual => {
            let others = (0..setup.contenders.len()).filter(|&other| other != index).collect();
            (files(vec![index]), files(others))
        }
    };
    format!(
        "lease: {lease}\nkill_grace: 1\nconnect_timeout: 2\njobs:\n- {{id: j, {place}, lock_files: [{locks}], \
         blocks_on: [{blocks}], actions: [\n    {actions}]}}\n",
        lease = setup.lease,
        actions = actions.join(",\n    ")
    )
}
