//! How a node shows who it is, by servers that demand it: a token, a key, a file of credentials, a
//! certificate. The other tests have users with passwords.
//!
//! The certificates in `tls/` are of an authority that was made for this, and whose key is gone;
//! they are good for a hundred years.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freehold_replica::{Login, ReplicaConfig, ReplicaError, Role, SyncCheck, Tls};
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::servers::Servers;
use super::support::Watchdog;
use super::{open, pay};

/// Has a node join, pay, and be an owner; and refused with each of what is wrong.
fn joins(right: &ReplicaConfig, wrong: impl IntoIterator<Item = ReplicaConfig>) {
    let place = tempfile::tempdir().expect("a place");
    for wrong in wrong {
        let wrong = ReplicaConfig { patience: Duration::from_millis(300), ..wrong };
        let error = open(place.path(), wrong).expect_err("it is refused");
        assert!(matches!(error, ReplicaError::Servers { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let node = open(place.path(), right.clone()).expect("it is let in");
    assert_eq!(node.role(), Role::Owner);
    pay(&node.handle().expect("it is the owner"), 0..3);
}

/// A node's configuration with this login, and one with another.
fn by(servers: &Servers, login: Login) -> ReplicaConfig {
    ReplicaConfig { login, sync_check: SyncCheck::Assumed, ..servers.config("a") }
}

#[test]
fn a_token_is_asked_for() {
    let _watchdog = Watchdog::new("a_token_is_asked_for");
    let how = "authorization { token: \"secret-token\" }";
    let Some(servers) = Servers::start_as("a_token_is_asked_for", how) else { return };
    let wrong = [Login::None, Login::Token("secret-other".into())];
    joins(&by(&servers, Login::Token("secret-token".into())), wrong.map(|login| by(&servers, login)));
}

#[test]
fn a_key_is_asked_for() {
    let _watchdog = Watchdog::new("a_key_is_asked_for");
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let how = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let Some(servers) = Servers::start_as("a_key_is_asked_for", &how) else { return };
    let [right, wrong] = [key, other].map(|key| by(&servers, Login::Nkey(key.seed().expect("it has one"))));
    joins(&right, [wrong]);
}

/// What an issuer says of a subject, signed.
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, says: Value) -> String {
    let claims = json!({
        "jti": name, "iat": 1, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name, "nats": says,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("it can sign");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The file of credentials of a new user of this account.
fn credentials(directory: &Path, account: &KeyPair, name: &str) -> PathBuf {
    let user = KeyPair::new_user();
    let says = json!({
        "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
    });
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(account, &user, name, says),
        user.seed().expect("it has one"),
    );
    let path = directory.join(format!("{name}.creds"));
    std::fs::write(&path, text).expect("it can be written");
    path
}

#[test]
fn a_file_of_credentials_is_asked_for() {
    let _watchdog = Watchdog::new("a_file_of_credentials_is_asked_for");
    let place = tempfile::tempdir().expect("a place");
    let (operator, stranger) = (KeyPair::new_operator(), KeyPair::new_account());
    let [system, account] = [(); 2].map(|()| KeyPair::new_account());
    let limits = |storage: i64| {
        json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
        })
    };
    let of_account = |account: &KeyPair, name: &str, storage: i64| {
        let says = json!({ "limits": limits(storage), "type": "account", "version": 2 });
        format!("{}: {}", account.public_key(), token(&operator, account, name, says))
    };
    let says = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
    let how = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n{}\n}}",
        token(&operator, &operator, "operator", says),
        system.public_key(),
        of_account(&system, "system", 0),
        of_account(&account, "ledger", -1),
    );
    let Some(servers) = Servers::start_as("a_file_of_credentials_is_asked_for", &how) else { return };
    let login = |account, name: &str| Login::Credentials(credentials(place.path(), account, name));
    let right = ReplicaConfig {
        // The system account's, too: it is asked whether the server syncs.
        sync_check: SyncCheck::By(login(&system, "sys")),
        ..by(&servers, login(&account, "app"))
    };
    let wrong = [login(&stranger, "stranger"), Login::None].map(|login| by(&servers, login));
    joins(&right, wrong);
    let missing = by(&servers, Login::Credentials(place.path().join("none")));
    let error = open(place.path(), missing).expect_err("there is no such file");
    assert!(matches!(error, ReplicaError::File { .. }), "{error}");
}

#[test]
fn certificates_are_asked_for_on_both_sides() {
    let _watchdog = Watchdog::new("certificates_are_asked_for_on_both_sides");
    let test = "certificates_are_asked_for_on_both_sides";
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nodes/tls").join(name);
    let [certificate, key, authority] =
        ["server.pem", "server.key", "ca.pem"].map(|name| file(name).display().to_string());
    let how = format!(
        "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{authority}\", verify: true }}"
    );
    let Some(servers) = Servers::start_as(test, &how) else { return };
    let tls = Tls {
        is_required: true,
        authorities: Some(file("ca.pem")),
        certificate: Some((file("node.pem"), file("node.key"))),
    };
    let addresses = servers.urls().iter().map(|url| url.replace("nats://", "tls://")).collect();
    let right = ReplicaConfig { servers: addresses, tls, ..by(&servers, Login::None) };
    let with = |tls| ReplicaConfig { tls, ..right.clone() };
    let wrong = [
        with(Tls { authorities: None, ..right.tls.clone() }),
        with(Tls { certificate: None, ..right.tls.clone() }),
    ];
    joins(&right, wrong);
    // A server that offers none is refused, if it must.
    let Some(plain) = Servers::start_as(test, "") else { return };
    let place = tempfile::tempdir().expect("a place");
    let patience = Duration::from_millis(300);
    let unsafe_one = ReplicaConfig { tls: right.tls.clone(), patience, ..by(&plain, Login::None) };
    let error = open(place.path(), unsafe_one).expect_err("it is refused");
    assert!(matches!(error, ReplicaError::Servers { .. }), "{error}");
    joins(&by(&plain, Login::None), []);
}
