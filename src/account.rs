//! Users and their home directories, as a login would have set them: by the environment, else by passwd(5), since a service has
//! neither `HOME` nor `LOGNAME`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A field of a line of passwd(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name = 0,
    Uid = 2,
    Home = 5,
}

/// Our home directory.
pub fn home() -> Option<PathBuf> {
    variable("HOME").or_else(|| from_passwd("HOME")).map(PathBuf::from)
}

/// The name of the user that we run as.
pub fn name() -> Option<String> {
    ["LOGNAME", "USER"]
        .into_iter()
        .find_map(variable)
        .or_else(|| from_passwd("LOGNAME"))
        .map(|name| name.to_string_lossy().into_owned())
}

/// What passwd(5) says for a variable that a login sets, `HOME` or `LOGNAME`; `None` for any other.
pub fn from_passwd(variable: &str) -> Option<OsString> {
    let wanted = match variable {
        "HOME" => Field::Home,
        "LOGNAME" => Field::Name,
        _ => return None,
    };
    let uid = rustix::process::geteuid().as_raw().to_string();
    field_of(&fs::read("/etc/passwd").ok()?, Field::Uid, uid.as_bytes(), wanted)
}

/// The home directory of a user by name.
pub fn home_of(user: &[u8]) -> Option<OsString> {
    field_of(&fs::read("/etc/passwd").ok()?, Field::Name, user, Field::Home)
}

/// The name of the user with this number.
pub fn name_of(uid: u32) -> Option<String> {
    let name = field_of(&fs::read("/etc/passwd").ok()?, Field::Uid, uid.to_string().as_bytes(), Field::Name)?;
    name.into_string().ok()
}

/// Names and numbers of a file like passwd(5) or group(5); nothing where it cannot be read. Accounts that are known elsewhere (LDAP) are not in it.
pub fn numbers(file: &str) -> Vec<(String, u32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let number = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn field_of(passwd: &[u8], key: Field, value: &[u8], wanted: Field) -> Option<OsString> {
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let found = fields.get(wanted as usize).filter(|field| !field.is_empty())?;
        (fields[key as usize] == value).then(|| OsString::from_vec(found.to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nodd:x:7:7::\nsvc:x:8:8:::/bin/false\n";

    #[test]
    fn lines_are_found_by_name_and_by_uid() {
        let home = |name: &str| field_of(PASSWD, Field::Name, name.as_bytes(), Field::Home);
        assert_eq!(home("ann"), Some("/home/ann".into()));
        assert_eq!(field_of(PASSWD, Field::Uid, b"1000", Field::Name), Some("ann".into()));
        assert_eq!((home("nobody"), home("odd"), home("svc")), (None, None, None));
    }

    #[test]
    fn only_what_a_login_sets_is_answered() {
        assert!(from_passwd("HOME").is_some() && from_passwd("PATH").is_none());
        assert_eq!(name_of(0).as_deref(), Some("root"));
    }
}
