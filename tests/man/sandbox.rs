//! Where examples run: a directory of their own, a glacier-local, a `zfs`
//! that plays tests/streams, and nothing of the caller's environment.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long an example may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// The port that examples use.
const PORT: &str = ":5556";

/// Plays the streams of tests/streams as the snapshots that they are.
const ZFS: &str = r#"#!/bin/sh
# zfs - what examples take for zfs(8)
set -eu
case "$*" in
"send -w "*) cat "$STREAMS/encrypted-raw-w-incremental.zfs" ;;
"send -R "*) cat "$STREAMS/replication-R-I.zfs" ;;
"send -I "*) cat "$STREAMS/incremental-I.zfs" ;;
"send "*" tank/home@tue") cat "$STREAMS/incremental-1.zfs" ;;
"send "*" tank/home@wed") cat "$STREAMS/incremental-2.zfs" ;;
"send "*@mon) cat "$STREAMS/full.zfs" ;;
"receive "*) cat >/dev/null ;;
"list "*) echo tank/home ;;
"get "*" akashita:"*) echo - ;;
"get "*" type "*) case "$*" in *" tank" | *" tank/home") echo filesystem ;; *) exit 1 ;; esac ;;
"get "*"value guid "*@mon) echo 13202105433093045432 ;;
"get "*"value guid "*) echo 9426808012259010397 ;;
"get "*guid*) printf 'tank/home@mon\t%s\t13202105433093045432\n' guid createtxg ;;
"get "*) echo off ;;
*) exit 2 ;;
esac
"#;

/// Takes a job for a time, as at(1) does, and keeps it: nothing may wait on
/// this machine.
const AT: &str = r#"#!/bin/sh
# at - what examples take for at(1)
set -eu
time='' job=''
while getopts c:f:mt: option; do
	case $option in
	c) exit ;;
	f) job=$OPTARG ;;
	m) ;;
	*) time=$OPTARG ;;
	esac
done
shift $((OPTIND - 1))
[ "$*" = now ] || expr "$time" : '[0-9]\{12\}$' >/dev/null
cat "$job" >>"$HOME/jobs"
"#;

const ATQ: &str = r#"#!/bin/sh
# atq - lists what at took
[ ! -f "$HOME/jobs" ] || printf '1\tSun Nov 29 22:00:00 2026 a %s\n' "$(id -un)"
"#;

/// systemd tells of a run that failed, and its mail goes nowhere.
const FAILED: [(&str, &str); 3] = [
    ("systemctl", "#!/bin/sh\n[ \"$1 $2 $4\" = 'show -p --value' ] && echo 75\n"),
    ("journalctl", "#!/bin/sh\necho a reason\n"),
    ("sendmail", "#!/bin/sh\ngrep -q 'Subject: .* has failed'\n"),
];

/// What is stored before the first example: a chain and a tar file. A call
/// is refused before, for those who look for one in the server's log.
const STORED: &str = "
set -e
export GLACIER_SPOOL=refused
glacier-chunk --name refused -- echo refused | glacier-put --catalog refused.jsonl no-such-vault || :
export GLACIER_SPOOL=\"$PWD/spool\"
zfs send tank/home@mon | glacier-chunk | glacier-put --create-vault my-vault
zfs send -i @mon tank/home@tue | glacier-chunk | glacier-put my-vault
! age-keygen -o key || age-keygen -y key >recipient
glacier-chunk --name etc-2026-11-23.tar -- tar -cf - photos | glacier-put my-vault
";

pub struct Sandbox {
    directory: tempfile::TempDir,
    path: String,
    endpoint: String,
    port: String,
    servers: Vec<Child>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(end);
    }
}

/// Ends a program and all that it started.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

impl Sandbox {
    pub fn new(bin: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        for name in ["bin", "home", "tmp", "photos"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        fs::write(top.join("photos/one.jpg"), vec![b'x'; 100_000]).unwrap();
        let stream = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/full.zfs");
        fs::copy(stream, top.join("home.zfs")).unwrap();
        fs::write(top.join("job"), "akashita-backup\n").unwrap();
        for (name, script) in [("zfs", ZFS), ("at", AT), ("atq", ATQ)].into_iter().chain(FAILED) {
            let path = top.join("bin").join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        let conf = top.join("akashita.conf");
        let state = top.join("state");
        let text = format!(
            "dest=my-vault\ndataset=tank/home\nstate={}\ncatalog={}\n",
            state.display(),
            top.join("catalog.jsonl").display()
        );
        fs::write(&conf, text).unwrap();
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();

        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        let mut path = vec![top.join("bin"), bin.to_owned(), scripts];
        // Where the AWS CLI is, if scripts/test put it there.
        let python = std::env::var_os("AKASHITA_PYTHON").map(PathBuf::from);
        path.extend(python.and_then(|python| python.parent().map(Path::to_owned)));
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let path = std::env::join_paths(path).unwrap().into_string().unwrap();

        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut sandbox = Self {
            directory,
            path,
            endpoint: String::new(),
            port: format!(":{free}"),
            servers: Vec::new(),
        };
        let (status, output) =
            sandbox.run("glacier-local --root vaults --clock-speed 7200 --log ~/calls");
        assert_eq!(status, 0, "{output}");
        let line: serde_json::Value = serde_json::from_str(&output).unwrap();
        line["endpoint"].as_str().unwrap().clone_into(&mut sandbox.endpoint);
        sandbox.profiles();
        let (status, output) = sandbox.run(STORED);
        assert_eq!(status, 0, "{output}");
        sandbox
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The server's key pair, under the names of profiles that examples use.
    fn profiles(&self) {
        let pair = fs::read_to_string(self.file("vaults/credentials")).unwrap();
        let keys = pair.split_once('\n').unwrap().1;
        let named = ["default", "akashita"].map(|name| format!("[{name}]\n{keys}\n"));
        fs::write(self.file("credentials"), named.concat()).unwrap();
    }

    /// Whether a program is in the PATH of examples.
    pub fn has(&self, program: &str) -> bool {
        std::env::split_paths(&self.path).any(|directory| directory.join(program).is_file())
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .current_dir(self.directory.path())
            .process_group(0)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.file("home"))
            .env("TMPDIR", self.file("tmp"))
            .env("STREAMS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams"))
            .env("TZ", night())
            .env("AKASHITA_CONF", self.file("akashita.conf"))
            .env("GLACIER_SPOOL", self.file("spool"))
            .env("GLACIER_CATALOG", self.file("catalog.jsonl"))
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", self.file("credentials"))
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if self.endpoint.is_empty() {
            shell.env_remove("AWS_ENDPOINT_URL");
        }
        shell
    }

    /// Runs an example; gives its status and all it printed. What one sets the
    /// next ones find. A server is left running, and all is well with it
    /// once it listens.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        let tmp = self.file("tmp").display().to_string();
        let command = [" ", ">", "<", "="].iter().fold(command.to_owned(), |command, before| {
            command.replace(&format!("{before}/tmp"), &format!("{before}{tmp}"))
        });
        let command = command.replace(PORT, &self.port);
        if command.starts_with("glacier-local ") {
            return self.serve(&command);
        }
        let script = format!(
            "set -a\n[ ! -f exports ] || . ./exports\n{command}\nstatus=$?\nexport -p >exports\nexit $status"
        );
        let output = self.file("output");
        let file = File::create(&output).unwrap();
        let mut child =
            self.shell(&script).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code().unwrap_or(-1);
            }
            if begin.elapsed() > PATIENCE {
                break -1;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        end(&mut child);
        (status, String::from_utf8_lossy(&fs::read(output).unwrap()).into_owned())
    }

    /// Lets the service make its first inventory, in a day of its own.
    pub fn pass_a_day(&mut self) {
        let (status, output) =
            self.run("until glacier-ls vaults | grep -q '\"inventory\"'; do sleep 1; done");
        assert_eq!(status, 0, "{output}");
    }

    fn serve(&mut self, command: &str) -> (i32, String) {
        let mut server =
            self.shell(&format!("exec {command}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let status = if line.contains("\"listening\"") { 0 } else { -1 };
        self.servers.push(server);
        (status, line)
    }
}

/// A zone where it is an hour past midnight: examples send at night.
fn night() -> String {
    let hour = jiff::Timestamp::now().strftime("%H").to_string().parse::<i32>().unwrap();
    // West of Greenwich is positive here.
    let west = hour - 1;
    let west = if west > 12 { west - 24 } else { west };
    format!("NIGHT{west:+}")
}
