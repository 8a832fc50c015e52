//! Secrets that would be recognised anywhere, and are found nowhere: not in
//! an argument, on standard output or error, nor in a file of ours (I8).

use crate::common;
use crate::common::local;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const KEY_ID: &str = "AKIACANARYCANARY1234";
const SECRET: &str = "CanarySecret/0000+1111/2222333344445555";
const TOKEN: &str = "CanaryToken//abcd+efgh/ijkl0123456789==";

/// What must be found nowhere.
struct Canaries(Vec<String>);

impl Canaries {
    fn with(key_id: &str, secret: &str) -> Self {
        let of_proxy = ["CanaryUser", "CanaryPass", "Q2FuYXJ5VXNlcjpDYW5hcnlQYXNz"];
        let mut all: Vec<String> = of_proxy.map(str::to_owned).into();
        all.extend([key_id, secret, TOKEN].map(str::to_owned));
        // As JSON may write them.
        all.extend([secret, TOKEN].map(|text| text.replace('/', "\\/")));
        Self(all)
    }

    fn of_strangers() -> Self {
        Self::with(KEY_ID, SECRET)
    }

    /// The first of them in these bytes.
    fn find(&self, bytes: &[u8]) -> Option<&str> {
        let text = String::from_utf8_lossy(bytes);
        self.0.iter().map(String::as_str).find(|canary| text.contains(canary))
    }

    /// The first of them among the arguments of all that runs here.
    fn find_in_arguments(&self) -> Option<String> {
        let processes = std::fs::read_dir("/proc").ok()?;
        processes
            .filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok())
            .find_map(|arguments| {
                let found = self.find(&arguments)?;
                Some(format!("{found}: {}", String::from_utf8_lossy(&arguments)))
            })
    }

    /// Runs a tool, and asserts that none of them is found in what it says,
    /// prints, leaves or runs. Gives its status.
    #[track_caller]
    fn found_nowhere(&self, place: &Place, command: &mut Command, input: &[u8]) -> i32 {
        let over = AtomicBool::new(false);
        let (ended, in_arguments) = thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut found = None;
                while !over.load(Ordering::Relaxed) && found.is_none() {
                    found = self.find_in_arguments();
                    thread::sleep(std::time::Duration::from_millis(2));
                }
                found
            });
            let ended = run_with(command, input);
            over.store(true, Ordering::Relaxed);
            (ended, looking.join().unwrap())
        });
        assert_eq!(in_arguments, None);
        assert_eq!(self.find(ended.stdout.as_bytes()), None, "{}", ended.stdout);
        assert_eq!(self.find(ended.stderr.as_bytes()), None, "{}", ended.stderr);
        assert_eq!(self.find_in(&place.path("")), None);
        ended.code()
    }

    /// The first file in a directory that holds one, but for those that are
    /// there to hold them.
    fn find_in(&self, directory: &Path) -> Option<String> {
        local::files(directory).into_iter().find_map(|path| {
            let name = path.file_name()?.to_str()?;
            if name == "credentials" || name.starts_with("given-") {
                return None;
            }
            let found = self.find(&std::fs::read(&path).unwrap_or_default())?;
            Some(format!("{found}: {}", path.display()))
        })
    }
}

/// A client with a session that is nobody's.
fn session(place: &Place, tool: &str, arguments: &[&str]) -> Command {
    let mut command = stranger(place, tool, arguments);
    command
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_SESSION_TOKEN", TOKEN);
    command
}

/// What looks for canaries finds them.
#[test]
fn a_canary_is_found_where_it_is() {
    let place = Place::default();
    let canaries = Canaries::of_strangers();
    assert!(canaries.find(format!("x{SECRET}y").as_bytes()).is_some());
    std::fs::create_dir(place.spool()).unwrap();
    std::fs::write(place.spool().join("put.jsonl"), format!("\u{0}{TOKEN}")).unwrap();
    assert!(canaries.find_in(&place.path("")).is_some());
    if Path::new("/proc/self/cmdline").exists() {
        let only = Canaries(vec!["AkashitaPlantedCanary".to_owned()]);
        let mut sh = place.command("sh");
        let running = common::start(
            sh.args(["-c", "read -r x", "AkashitaPlantedCanary"])
                .stdin(std::process::Stdio::piped()),
        );
        common::until("it is found", || only.find_in_arguments().is_some());
        drop(running);
    }
}

#[test]
fn a_session_that_works_is_found_nowhere() {
    let place = Place::default();
    let server = Local::start(&place);
    let (bytes, lines) = cut(&place);
    let canaries = Canaries::with(&server.key_id(), &server.secret());
    let mine = |command: &mut Command| {
        command
            .env_remove("AWS_SHARED_CREDENTIALS_FILE")
            .env("AWS_ACCESS_KEY_ID", server.key_id())
            .env("AWS_SECRET_ACCESS_KEY", server.secret())
            .env("AWS_SESSION_TOKEN", TOKEN);
    };
    let mut put = server.put(&place, &["--create-vault", "v"]);
    mine(&mut put);
    assert_eq!(canaries.found_nowhere(&place, &mut put, lines.as_bytes()), 0);
    server.holds(&place, "v", &bytes);
    let lines = chain(&place);
    let mut get =
        place.tool("glacier-get", &["--tier", "Expedited", "--", "sh", "-c", "cat >back"]);
    mine(server.client(&mut get));
    assert_eq!(canaries.found_nowhere(&place, &mut get, lines.as_bytes()), 0);
    assert!(std::fs::read(place.path("back")).unwrap() == bytes);
    // With a journal and receipts, and a wrong secret.
    let mut put = server.put(&place, &["v"]);
    mine(&mut put);
    put.env("AWS_SECRET_ACCESS_KEY", SECRET);
    let other = cut_as(&place, "y");
    assert_eq!(canaries.found_nowhere(&place, &mut put, other.as_bytes()), 77);
    assert_eq!(Canaries::of_strangers().find_in(&place.path("")), None);
}

/// The lines of another stream.
fn cut_as(place: &Place, name: &str) -> String {
    let options = ["--part-size", "1M", "--volume-size", "2M", "--trust-eof", "--name", name];
    run_with(&mut place.tool("glacier-chunk", &options), b"other bytes").done().stdout
}

/// Services tell what they have signed when a signature does not fit, with
/// the token in it; others tell a whole request.
#[test]
fn a_service_that_tells_what_it_was_sent_tells_nobody_else() {
    let (stored, server, _) = stored();
    let wanted = chain(&stored);
    drop(server);
    let place = Place::default();
    let (_, lines) = cut(&place);
    for (status, code, ends) in [
        (403, "InvalidSignatureException", 77),
        (403, "ExpiredTokenException", 77),
        (403, "UnrecognizedClientException", 77),
        (400, "InvalidParameterValueException", 69),
        (500, "InternalFailure", 75),
        (400, "", 69),
    ] {
        let service = Listener::answering(move |request| {
            let told = serde_json::to_string(&format!("Received: {request}")).unwrap();
            let body = format!(r#"{{"code":"{code}","message":{told}}}"#);
            let token =
                request.lines().find_map(|line| line.strip_prefix("x-amz-security-token: "));
            format!(
                "HTTP/1.1 {status} No\r\nx-amzn-errortype: {code}\r\nx-told: {}\r\ncontent-length: {}\r\n\r\n{body}",
                token.unwrap_or_default(),
                body.len()
            )
        });
        for (tool, lines) in [("glacier-put", &lines), ("glacier-get", &wanted)] {
            let vault: &[&str] = if tool == "glacier-put" { &["v"] } else { &[] };
            let mut command = session(&place, tool, &[&["--patience", "0s"], vault].concat());
            command.env("AWS_ENDPOINT_URL", service.url());
            let status =
                Canaries::of_strangers().found_nowhere(&place, &mut command, lines.as_bytes());
            assert_eq!(status, ends, "{tool} {code}");
        }
        assert!(service.heard().contains(TOKEN), "the service was told");
    }
}

#[test]
fn what_gives_credentials_and_fails_is_not_repeated() {
    let place = Place::default();
    let (_, lines) = cut(&place);
    let script = place.path("given-script");
    for (says, file, is_config) in [
        (format!("echo {SECRET} {TOKEN} {KEY_ID} >&2; exit 3"), String::new(), true),
        (format!("echo {SECRET}"), String::new(), true),
        (
            format!(
                r#"echo '{{"Version":1,"AccessKeyId":"{KEY_ID}","SecretAccessKey":"{SECRET}","Expiration":"{TOKEN}"}}'"#
            ),
            String::new(),
            true,
        ),
        (
            format!(
                r#"echo '{{"Version":"{TOKEN}","AccessKeyId":"{KEY_ID}","SecretAccessKey":{SECRET}}}'"#
            ),
            String::new(),
            true,
        ),
        (String::new(), format!("[default]\naws_access_key_id = {KEY_ID}\n{SECRET}\n"), false),
        (String::new(), format!("[default]\n{SECRET}\n"), false),
        (String::new(), format!("{SECRET}\n[default]\n"), false),
        (String::new(), format!("[default]\naws_access_key_id = {KEY_ID}\n"), false),
        (String::new(), format!("[default\naws_session_token = {TOKEN}\n"), false),
    ] {
        std::fs::write(&script, &says).unwrap();
        let given = place.path("given-profile");
        let process = format!("[default]\ncredential_process = sh {}\n", script.display());
        std::fs::write(&given, if is_config { &process } else { &file }).unwrap();
        let mut put = stranger(&place, "glacier-put", &["v"]);
        put.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        put.env(if is_config { "AWS_CONFIG_FILE" } else { "AWS_SHARED_CREDENTIALS_FILE" }, &given);
        let status = Canaries::of_strangers().found_nowhere(&place, &mut put, lines.as_bytes());
        assert_eq!(status, 77, "{says}{file}");
    }
}

#[test]
fn a_process_that_fails_is_told_by_its_status() {
    let place = Place::default();
    let config = place.path("config");
    std::fs::write(&config, "[default]\ncredential_process = sh -c 'echo secret >&2; exit 3'\n")
        .unwrap();
    let mut put = stranger(&place, "glacier-put", &["v"]);
    put.env_remove("AWS_ACCESS_KEY_ID").env("AWS_CONFIG_FILE", config);
    run_with(&mut put, b"").failed(
        77,
        "no AWS credentials: credential_process ended with exit status: 3; run it by hand to see \
         why; set AWS_PROFILE, or the keys in the environment",
    );
}

/// It took 18 GiB in its minute.
#[test]
fn a_process_that_floods_is_ended_at_a_mebibyte() {
    for (file, variable) in
        [("config", "AWS_CONFIG_FILE"), ("credentials", "AWS_SHARED_CREDENTIALS_FILE")]
    {
        let place = Place::default();
        let config = place.path(file);
        std::fs::write(&config, "[default]\ncredential_process = yes # for ever\n").unwrap();
        let mut put = stranger(&place, "glacier-put", &["v"]);
        put.env_remove("AWS_ACCESS_KEY_ID").env(variable, config);
        let begin = std::time::Instant::now();
        run_with(&mut put, b"").failed(
            77,
            "no AWS credentials: credential_process printed over 1 MiB, and was ended; set \
             AWS_PROFILE, or the keys in the environment",
        );
        assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    }
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let place = Place::default();
    let said = "no AWS credentials: neither environment, nor profile \"nobody\", nor this \
                machine's role has them; set AWS_PROFILE, or the keys in the environment";
    let bare = |arguments: &[&str]| {
        let mut put = stranger(&place, "glacier-put", arguments);
        put.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        put
    };
    run_with(bare(&["v"]).env("AWS_PROFILE", "nobody"), b"").failed(77, said);
    run_with(&mut bare(&["--profile", "nobody", "v"]), b"").failed(77, said);
}

/// Proxies and endpoints may be given with a password in them.
#[test]
fn a_password_in_a_url_is_found_nowhere() {
    let place = Place::default();
    let (_, lines) = cut(&place);
    let proxy =
        Listener::answering(|_| "HTTP/1.1 407 CanaryPass\r\ncontent-length: 0\r\n\r\n".to_owned());
    let canaries = Canaries::of_strangers();
    for (variable, url, ends) in [
        ("HTTPS_PROXY", format!("http://CanaryUser:CanaryPass@127.0.0.1:{}", proxy.port), 75),
        ("HTTPS_PROXY", "http://CanaryUser:CanaryPass@127.0.0.1:1".to_owned(), 75),
        ("HTTPS_PROXY", "https://CanaryUser:CanaryPass@127.0.0.1:1".to_owned(), 75),
        ("ALL_PROXY", "http://CanaryUser:CanaryPass@no.such.host.invalid:1".to_owned(), 75),
        ("AWS_ENDPOINT_URL", "https://CanaryUser:CanaryPass@127.0.0.1:1".to_owned(), 78),
        ("AWS_ENDPOINT_URL", "http://CanaryUser:CanaryPass@evil.example".to_owned(), 78),
        ("AWS_ENDPOINT_URL_GLACIER", "http://CanaryUser:CanaryPass@evil.example".to_owned(), 78),
        ("AWS_ENDPOINT_URL_GLACIER", "http://CanaryUser:CanaryPass @evil.example".to_owned(), 78),
    ] {
        let mut put = session(&place, "glacier-put", &["--patience", "0s", "v"]);
        put.env(variable, &url);
        let status = canaries.found_nowhere(&place, &mut put, lines.as_bytes());
        assert_eq!(status, ends, "{variable}={url}");
    }
}
