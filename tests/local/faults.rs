//! The fault plan: each fault strikes the request it is for, and no other.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use akashita::hash::tree::{Hash, TreeHash};
use serde_json::Value;

use super::{MIB, Server, answer, pattern, stderr, tool, until};

/// A server with a plan, a vault `v`, and its log.
struct Faulty {
    server: Server,
    log: PathBuf,
    root: tempfile::TempDir,
}

impl Faulty {
    fn start(plan: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (log, faults) = (root.path().join("log"), root.path().join("plan.jsonl"));
        std::fs::write(&faults, plan).unwrap();
        let options =
            [("--log", &log), ("--faults", &faults)].map(|(o, path)| [o, path.to_str().unwrap()]);
        let server = Server::start(
            &root.path().join("root"),
            &[&options.concat()[..], &["--clock-speed", "3600"]].concat(),
        );
        server.call("PUT /-/vaults/v", &[], b"");
        Self { server, log, root }
    }

    /// The lines of a call, once there are so many.
    fn logged(&self, call: &str, count: usize) -> Vec<Value> {
        let mut found = Vec::new();
        until(|| {
            let text = std::fs::read_to_string(&self.log).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            found = lines.filter(|line: &Value| line["call"] == call).collect();
            found.len() >= count
        });
        found
    }

    fn describe(&self) -> std::io::Result<super::Answer> {
        self.server.try_call("GET /-/vaults/v", &[], b"")
    }

    /// An archive of these bytes, and a job that has brought it up.
    fn job(&self, bytes: &[u8]) -> String {
        let hash = TreeHash::of(bytes).to_string();
        let headers = [("x-amz-sha256-tree-hash", hash.as_str())];
        let stored = self.server.call("POST /-/vaults/v/archives", &headers, bytes);
        let id = &stored.headers["x-amz-archive-id"];
        let order =
            format!(r#"{{"Type":"archive-retrieval","ArchiveId":"{id}","Tier":"Expedited"}}"#);
        let job = self.server.call("POST /-/vaults/v/jobs", &[], order.as_bytes());
        let job = job.headers["x-amz-job-id"].clone();
        let call = format!("GET /-/vaults/v/jobs/{job}");
        until(|| self.server.call(&call, &[], b"").json()["Completed"] == true);
        job
    }

    fn output(&self, job: &str) -> std::io::Result<super::Answer> {
        self.server.try_call(&format!("GET /-/vaults/v/jobs/{job}/output"), &[], b"")
    }
}

/// Sends the head and so many bytes of a part; gives the open connection.
fn begin_part(server: &Server, upload: &str, body: &[u8], sent: usize) -> std::net::TcpStream {
    let hash = TreeHash::of(body).to_string();
    let range = format!("bytes 0-{}/*", body.len() - 1);
    let headers = [("content-range", range.as_str()), ("x-amz-sha256-tree-hash", &hash)];
    let call = format!("PUT /-/vaults/v/multipart-uploads/{upload}");
    let head = server.head(&call, &headers, body.len(), &Hash::of(body).to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    // The server may end the connection meanwhile.
    let _ = stream.write_all(&body[..sent]);
    stream
}

#[test]
fn refuses_in_amazons_words_or_in_a_proxys() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"DescribeVault","nth":1,"do":"refuse","code":"ThrottlingException"}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":2,"do":"refuse","status":503}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":3,"do":"refuse","code":"Mood","status":418,"message":"tea"}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":4,"do":"answer","body":"<html>log in</html>"}"#,
    ));
    let throttled = faulty.describe().unwrap();
    assert_eq!(throttled.status, 400);
    assert_eq!(
        throttled.json(),
        serde_json::json!({"code": "ThrottlingException", "message": "Rate exceeded", "type": "Client"})
    );
    let bare = faulty.describe().unwrap();
    assert_eq!((bare.status, bare.body.len()), (503, 0));
    assert_eq!(faulty.describe().unwrap().json()["message"], "tea");
    let portal = faulty.describe().unwrap();
    assert_eq!((portal.status, portal.body), (200, b"<html>log in</html>".to_vec()));
    assert_eq!(faulty.describe().unwrap().json()["VaultName"], "v");
    let lines = faulty.logged("DescribeVault", 5);
    assert_eq!(
        (&lines[0]["fault"], &lines[0]["code"]),
        (&"refuse".into(), &"ThrottlingException".into())
    );
    assert_eq!((&lines[3]["fault"], &lines[4]["fault"]), (&"answer".into(), &Value::Null));
}

#[test]
fn drops_a_part_before_within_and_behind_its_bytes() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"UploadMultipartPart","nth":1,"do":"drop"}"#,
        "\n",
        r#"{"call":"UploadMultipartPart","nth":2,"do":"drop-after","bytes":500000}"#,
        "\n",
        r#"{"call":"UploadMultipartPart","nth":3,"do":"lose-answer"}"#,
    ));
    let server = &faulty.server;
    let (upload, data) = (server.upload("1048576"), pattern(MIB));
    let list = format!("GET /-/vaults/v/multipart-uploads/{upload}");
    let parts = || server.call(&list, &[], b"").json()["Parts"].as_array().unwrap().len();
    for _ in 0..2 {
        let stream = begin_part(server, &upload, &data, MIB);
        assert!(super::try_answer(stream).is_err());
        assert_eq!(parts(), 0);
    }
    assert!(super::try_answer(begin_part(server, &upload, &data, MIB)).is_err());
    assert_eq!(parts(), 1);
    let lines = faulty.logged("UploadMultipartPart", 3);
    let received: Vec<u64> = lines.iter().map(|line| line["received"].as_u64().unwrap()).collect();
    assert_eq!(received[0], 0);
    assert!((500_000..1 << 20).contains(&received[1]), "{received:?}");
    assert_eq!(received[2], 1 << 20);
    for (line, fault) in lines.iter().zip(["drop", "drop-after", "lose-answer"]) {
        assert_eq!((&line["fault"], &line["status"]), (&fault.into(), &Value::Null), "{line}");
        assert_eq!(
            (&line["upload"], &line["range"]),
            (&upload.clone().into(), &"bytes 0-1048575/*".into())
        );
        assert!(line["begin"].as_str() <= line["time"].as_str());
    }
}

#[test]
fn logs_what_stalls_and_what_its_client_gave_up() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"UploadMultipartPart","nth":1,"do":"stall","bytes":1000}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":1,"do":"stall-answer"}"#,
    ));
    let (upload, data) = (faulty.server.upload("1048576"), pattern(MIB));
    let _open = begin_part(&faulty.server, &upload, &data, MIB / 2);
    let line = &faulty.logged("UploadMultipartPart", 1)[0];
    assert_eq!((&line["fault"], &line["status"]), (&"stall".into(), &Value::Null));
    assert!(line["received"].as_u64() >= Some(1000));
    drop(begin_part(&faulty.server, &upload, &data, MIB / 2));
    let line = &faulty.logged("UploadMultipartPart", 2)[1];
    assert_eq!((&line["fault"], &line["received"]), (&Value::Null, &(MIB / 2).into()));

    let head = faulty.server.head("GET /-/vaults/v", &[], 0, &Hash::of(b"").to_string());
    let mut stream = faulty.server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "an answer came");
    assert_eq!(faulty.logged("DescribeVault", 1)[0]["fault"], "stall-answer");
}

#[test]
fn answers_drip_wait_or_end_early() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"DescribeVault","nth":1,"do":"cut-answer","bytes":10}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":2,"do":"drip","rate":500}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":3,"do":"delay","ms":300}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":4,"do":"delay-answer","ms":300}"#,
        "\n",
        r#"{"call":"CreateVault","nth":2,"do":"cut-answer","bytes":10}"#,
    ));
    assert_eq!(faulty.describe().err().unwrap().kind(), std::io::ErrorKind::UnexpectedEof);
    for _ in 0..3 {
        let begin = Instant::now();
        assert_eq!(faulty.describe().unwrap().json()["VaultName"], "v");
        assert!(begin.elapsed() > Duration::from_millis(200), "{:?}", begin.elapsed());
    }
    let lines = faulty.logged("DescribeVault", 4);
    assert_eq!((&lines[0]["status"], &lines[0]["sent"]), (&200.into(), &10.into()));
    assert!(lines[1]["ms"].as_u64() > Some(200));
    // Its answer has no body, so all of it is lost.
    assert!(faulty.server.try_call("PUT /-/vaults/w", &[], b"").is_err());
    assert_eq!(faulty.server.call("GET /-/vaults/w", &[], b"").status, 200);
}

#[test]
fn a_part_that_drips_takes_its_time() {
    let faulty = Faulty::start(r#"{"call":"UploadMultipartPart","do":"drip","rate":4000000}"#);
    let (upload, data) = (faulty.server.upload("1048576"), pattern(MIB));
    let begin = Instant::now();
    assert_eq!(answer(begin_part(&faulty.server, &upload, &data, MIB)).status, 204);
    assert!(begin.elapsed() > Duration::from_millis(200), "{:?}", begin.elapsed());
}

#[test]
fn downloads_are_damaged_cut_short_and_cut_off() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"GetJobOutput","nth":1,"do":"corrupt","bytes":77}"#,
        "\n",
        r#"{"call":"GetJobOutput","nth":2,"do":"truncate","bytes":1000}"#,
        "\n",
        r#"{"call":"GetJobOutput","nth":3,"do":"cut-answer","bytes":1000}"#,
        "\n",
        r#"{"call":"GetJobOutput","nth":4,"do":"wrong-hash"}"#,
        "\n",
        r#"{"call":"GetJobOutput","nth":5,"do":"no-hash"}"#,
    ));
    let data = pattern(MIB);
    let job = faulty.job(&data);
    let mut damaged = data.clone();
    damaged[77] ^= 1;
    assert_eq!(faulty.output(&job).unwrap().body, damaged);
    assert_eq!(faulty.output(&job).unwrap().body, data[..1000]);
    assert!(faulty.output(&job).is_err());
    let (wrong, none, good) =
        (faulty.output(&job).unwrap(), faulty.output(&job).unwrap(), faulty.output(&job).unwrap());
    let hash = TreeHash::of(&data).to_string();
    let of = |answer: &super::Answer| answer.headers.get("x-amz-sha256-tree-hash").cloned();
    assert_eq!(of(&good), Some(hash.clone()));
    assert_eq!(of(&none), None);
    assert_eq!(of(&wrong).unwrap()[1..], hash[1..]);
    assert_ne!(of(&wrong), of(&good));
    assert!([wrong, none, good].iter().all(|answer| answer.body == data));
    let lines = faulty.logged("GetJobOutput", 6);
    assert_eq!((&lines[2]["sent"], &lines[2]["job"]), (&1000.into(), &job.into()));
}

#[test]
fn uploads_and_jobs_are_forgotten_or_fail() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"UploadMultipartPart","nth":1,"do":"forget-upload"}"#,
        "\n",
        r#"{"call":"InitiateMultipartUpload","nth":2,"do":"forget-upload"}"#,
        "\n",
        r#"{"call":"GetJobOutput","nth":1,"do":"expire-job"}"#,
        "\n",
        r#"{"call":"ListJobs","nth":1,"do":"fail-job"}"#,
    ));
    let (server, data) = (&faulty.server, pattern(MIB));
    let upload = server.upload("1048576");
    assert_eq!(server.part(&upload, 0, &data).json()["code"], "ResourceNotFoundException");
    let upload = server.upload("1048576");
    assert_eq!(server.part(&upload, 0, &data).json()["code"], "ResourceNotFoundException");
    let upload = server.upload("1048576");
    assert_eq!(server.part(&upload, 0, &data).status, 204);

    let job = faulty.job(&data);
    assert_eq!(faulty.output(&job).unwrap().json()["code"], "ResourceNotFoundException");
    let job = faulty.job(&data);
    assert_eq!(faulty.output(&job).unwrap().status, 200);
    let jobs = server.call("GET /-/vaults/v/jobs", &[], b"").json();
    assert_eq!(jobs["JobList"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&jobs["JobList"][0]["JobId"], &jobs["JobList"][0]["StatusCode"]),
        (&job.clone().into(), &"Failed".into())
    );
    assert_eq!(faulty.output(&job).unwrap().json()["code"], "InvalidParameterValueException");
}

#[test]
fn a_bad_plan_is_named_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    let plan = root.path().join("plan.jsonl");
    std::fs::write(&plan, "{\"do\":\"drop\"}\n{\"do\":\"explode\"}\n").unwrap();
    let run = |plan: &Path| {
        tool()
            .arg("--root")
            .arg(root.path().join("root"))
            .arg("--faults")
            .arg(plan)
            .output()
            .unwrap()
    };
    let ended = run(&plan);
    assert_eq!(ended.status.code(), Some(65));
    assert_eq!(
        stderr(&ended),
        format!("glacier-local: {}: line 2: \"explode\" is no fault\n", plan.display())
    );
}

#[test]
fn a_download_outlives_the_deletion_of_its_archive_and_the_end_of_its_job() {
    let plan = [
        r#"{"call":"GetJobOutput","nth":1,"do":"drip","rate":4000000}"#,
        r#"{"call":"ListJobs","nth":1,"do":"expire-job"}"#,
    ];
    let faulty = Faulty::start(&(plan.join("\n") + "\n"));
    let bytes = pattern(12 * MIB);
    let server = &faulty.server;
    let upload = server.upload("1048576");
    for (number, part) in bytes.chunks(MIB).enumerate() {
        assert_eq!(server.part(&upload, number * MIB, part).status, 204);
    }
    let archive = server.complete(&upload, &bytes).headers["x-amz-archive-id"].clone();
    let order =
        format!(r#"{{"Type":"archive-retrieval","ArchiveId":"{archive}","Tier":"Expedited"}}"#);
    let job = server.call("POST /-/vaults/v/jobs", &[], order.as_bytes());
    let call = format!("GET /-/vaults/v/jobs/{}", job.headers["x-amz-job-id"]);
    until(|| server.call(&call, &[], b"").json()["Completed"] == true);

    let head = server.head(&format!("{call}/output"), &[], 0, &Hash::of(b"").to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.peek(&mut [0]).unwrap();
    let gone = server.call(&format!("DELETE /-/vaults/v/archives/{archive}"), &[], b"");
    assert_eq!(gone.status, 204);
    // The first has all jobs expire, the second removes what nobody needs.
    for _ in 0..2 {
        server.call("GET /-/vaults/v/jobs", &[], b"");
    }
    assert!(answer(stream).body == bytes, "other bytes");
    // Then its bytes go.
    let retained = faulty.root.path().join("root/regions/us-east-1/vaults/v/retained");
    until(|| {
        server.call("GET /-/vaults/v/jobs", &[], b"");
        std::fs::read_dir(&retained).unwrap().next().is_none()
    });
}

#[test]
fn lies_in_ids_lists_and_lengths() {
    let faulty = Faulty::start(concat!(
        r#"{"call":"InitiateMultipartUpload","nth":1,"do":"other-id","id":"a b"}"#,
        "\n",
        r#"{"call":"ListMultipartUploads","nth":1,"do":"other-id","id":"../x"}"#,
        "\n",
        r#"{"call":"ListMultipartUploads","from":2,"times":3,"do":"endless-list","markers":2}"#,
        "\n",
        r#"{"call":"ListMultipartUploads","from":5,"times":3,"do":"endless-list"}"#,
        "\n",
        r#"{"call":"DescribeVault","nth":1,"do":"endless-body"}"#,
    ));
    let server = &faulty.server;
    assert_eq!(server.upload("1048576"), "a b");
    let list = || server.call("GET /-/vaults/v/multipart-uploads", &[], b"").json();
    assert_eq!(list()["UploadsList"][0]["MultipartUploadId"], "../x");
    let mut markers = Vec::new();
    for _ in 0..6 {
        let page = list();
        assert_eq!(page["UploadsList"].as_array().unwrap().len(), 1, "each page is whole");
        markers.push(page["Marker"].as_str().unwrap().to_owned());
    }
    assert_eq!(markers, ["page-0", "page-1", "page-0", "page-5", "page-6", "page-7"]);
    assert_eq!(list()["Marker"], Value::Null);

    let head = server.head("GET /-/vaults/v", &[], 0, &Hash::of(b"").to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    let (mut text, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    while text.len() < 3 << 20 {
        let got = stream.read(&mut piece).unwrap();
        assert!(got > 0, "it ends behind {} bytes", text.len());
        text.extend_from_slice(&piece[..got]);
    }
    let text = String::from_utf8_lossy(&text[..4096]).to_ascii_lowercase();
    assert!(text.contains("\"vaultname\":\"v\"") && !text.contains("content-length"), "{text}");
    drop(stream);
    assert_eq!(faulty.logged("DescribeVault", 1)[0]["fault"], "endless-body");
}
