//! What must not be seen: keys, tokens, passphrases and prompts, wherever a node writes something.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tirami_agent_runtime::data_dir;
use tirami_manifest::id::to_hex;

use crate::cli::{EXE, Home, PASSPHRASE};
use crate::http::{CHAT, chat};
use crate::nodes::{Pair, Up};

/// A prompt that no log, command line or file has by chance.
const PROMPT: &str = "canary of a prompt 7f3a nobody else may read";

/// Starts a node that logs everything it can into a file.
async fn start_loud(home: &Home) -> Up {
    let to = home.text("log");
    let shell = format!("TIRAMI_LOG=trace exec \"$@\" 2>>'{to}'");
    Up::start_by(home, &["sh", "-c", &shell, "sh", EXE]).await
}

/// A secret in the forms in which it might slip out.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = to_hex(secret);
    vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        STANDARD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        // As Debug writes bytes.
        format!("{secret:?}").into_bytes(),
    ]
}

fn has(place: &[u8], secret: &[u8]) -> bool {
    place.windows(secret.len()).any(|part| part == secret)
}

#[tokio::test]
async fn no_secret_is_written_where_it_does_not_belong() {
    let pair = Pair::start().await;
    let Pair { a, b, up } = pair;
    up.kill().await;
    let (up_a, up_b) = (start_loud(&a).await, start_loud(&b).await);
    let passphrase = ["--passphrase-file", &b.text("passphrase")].map(str::to_owned);
    let with = |words: &[&str]| -> Vec<String> {
        let words = words.iter().map(|word| (*word).to_owned());
        words.chain(passphrase.clone()).collect()
    };
    b.ask(&with(&["owner", "init"])).await;
    let created = b.ask(&with(&["token", "create", "editor"])).await;
    let created = created["token"].as_str().unwrap().to_owned();
    let http = up_b.http(&b);
    let (status, answer) = http.post(CHAT, &chat(PROMPT, "secret")).await;
    assert_eq!(status, 200, "{answer}");
    let (refused, _) = http
        .with_token("not a token")
        .post(CHAT, &chat(PROMPT, "no"))
        .await;
    assert_eq!(refused, 401);
    b.ask(&with(&["budget", "loosen", "--hour", "20000"])).await;
    b.refused(&["owner", "init", "--passphrase-file", &b.text("wrong")])
        .await;

    let read = |home: &Home, name: &str| std::fs::read(home.path(name)).unwrap();
    let command_line = |up: &Up| std::fs::read(format!("/proc/{}/cmdline", up.pid())).unwrap();
    let said = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let b = &b;
        async move { b.run(&words).await }
    };
    let (status, doctor) = (said(&["status"]).await, said(&["doctor"]).await);
    let history = said(&["history"]).await;
    let mut places = vec![
        ("the seller's log", read(&a, "log")),
        ("the buyer's log", read(&b, "log")),
        ("the seller's command line", command_line(&up_a)),
        ("the buyer's command line", command_line(&up_b)),
        ("status", status.stdout.into_bytes()),
        ("doctor", doctor.stdout.into_bytes()),
        ("history", history.stdout.into_bytes()),
    ];
    up_a.kill().await;
    up_b.kill().await;
    for home in [&a, &b] {
        places.push((
            "a wallet",
            std::fs::read(data_dir::wallet(&home.data())).unwrap(),
        ));
    }
    let log = &places[1].1;
    assert!(log.len() > 1_000, "the log says something: {}", log.len());
    let key = |home: &Home| std::fs::read(home.data().join("node.key")).unwrap();
    let secrets = [
        ("the seller's key", key(&a)),
        ("the buyer's key", key(&b)),
        ("the seller's token", a.token().into_bytes()),
        ("the buyer's token", b.token().into_bytes()),
        ("the token that was made", created.into_bytes()),
        ("the passphrase", PASSPHRASE.as_bytes().to_vec()),
        (
            "the wrong passphrase",
            b"not the passphrase at all".to_vec(),
        ),
        ("the prompt", PROMPT.as_bytes().to_vec()),
    ];
    nowhere(&secrets, &places);
}

/// None of the secrets is in any of the places, in no form.
fn nowhere(secrets: &[(&str, Vec<u8>)], places: &[(&str, Vec<u8>)]) {
    for (secret, bytes) in secrets {
        let bytes = bytes.trim_ascii();
        assert!(bytes.len() >= 16, "{secret} is long enough to be told");
        for form in forms(bytes) {
            for (place, text) in places {
                assert!(!has(text, &form), "{secret} is in {place}");
            }
        }
    }
}
