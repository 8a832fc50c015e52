//! Streams under way: dropped whole, or left alone.

use serde_json::{Value, json};

use crate::common::local::{files, pattern};
use crate::common::{run_with, start, until};
use crate::rm::{MIB, Scene, catalog, only, parsed};

/// Lines of which put has stored two volumes and begun the third.
fn begun(scene: &Scene) -> (String, String) {
    let lines = scene.chunk(Some("x"), &pattern(6 * MIB));
    let cut: String = lines.split_inclusive('\n').take(1 + 3 + 3 + 1).collect();
    let ended = scene.put(&cut);
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
    (lines, ended.stdout)
}

fn uploads(scene: &Scene) -> Vec<Value> {
    let answer = scene.server.ask("GET", "/-/vaults/v/multipart-uploads", b"");
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["UploadsList"].as_array().unwrap().clone()
}

/// The line that lists an unfinished upload.
fn upload_line(upload: &Value) -> String {
    let of: Value =
        serde_json::from_str(upload["ArchiveDescription"].as_str().unwrap()).unwrap_or_default();
    let mut line = json!({"type": "upload", "dest": "glacier://v", "region": "eu-central-1",
        "upload_id": upload["MultipartUploadId"], "begun": upload["CreationDate"],
        "part_size": 1 << 20, "size": 1 << 20});
    if of["stream"].is_string() {
        for field in ["kind", "stream", "volume", "name"] {
            line[field] = of[field].clone();
        }
    }
    format!("{line}\n")
}

#[test]
fn a_stream_in_the_spool_is_dropped_with_its_uploads() {
    let scene = Scene::default();
    let (lines, stored) = begun(&scene);
    assert_eq!((scene.held(), uploads(&scene).len()), (2, 1));
    let dry = scene.rm(&["v"], &lines);
    let doomed = &dry.lines()[0];
    assert_eq!((&doomed["uploads"], &doomed["spooled"]), (&json!(1), &json!(true)));
    assert_eq!(uploads(&scene).len(), 1);

    let ended = scene.delete(&lines);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let gone = ended.lines();
    assert_eq!(gone.len(), 2);
    assert!(gone[0]["upload_id"].is_string() && gone[0]["volume"] == 2);
    assert_eq!((&gone[1]["spooled"], &gone[1]["dest"]), (&json!(true), &Value::Null));
    assert_eq!(gone[1]["size"], 2 * MIB);
    assert!(ended.stderr.contains("2 archives of it stay in glacier://v"), "{}", ended.stderr);
    assert!(uploads(&scene).is_empty() && files(&scene.place.spool()).is_empty());
    assert!(!scene.place.stream(parsed(&lines)[0]["stream"].as_str().unwrap()).exists());
    assert_eq!(scene.held(), 2);

    // Again: it is not there. Then what it left behind, which breaks nothing.
    assert_eq!(scene.delete(&lines).done().stdout, "");
    scene.delete(&stored).done();
    assert_eq!(scene.held(), 0);
}

#[test]
fn what_put_goes_on_with_stays_unless_its_stream_is_dropped() {
    let scene = Scene::default();
    let (lines, stored) = begun(&scene);
    let stream = parsed(&lines)[0]["stream"].as_str().unwrap().to_owned();
    let upload = upload_line(&uploads(&scene)[0]);
    let archive = only(&stored, &["archive"]);
    for line in [&upload, &archive] {
        scene.delete(line).failed(
            65,
            &format!(
                "stdin: line 1: glacier-put goes on with stream {stream}; give its stream line \
                 too, to drop it; nothing is deleted"
            ),
        );
    }
    assert_eq!((scene.held(), uploads(&scene).len()), (2, 1));
    let ended = scene.delete(&(upload + &archive + &only(&lines, &["stream"])));
    assert_eq!((ended.code(), ended.lines().len()), (0, 4), "{}", ended.stderr);
    assert!(scene.held() == 0 && uploads(&scene).is_empty());
    assert!(files(&scene.place.spool()).is_empty());
}

#[test]
fn an_upload_that_nobody_goes_on_with_is_aborted() {
    let scene = Scene::default();
    let (lines, _) = begun(&scene);
    let upload = upload_line(&uploads(&scene)[0]);
    std::fs::remove_dir_all(scene.place.stream(parsed(&lines)[0]["stream"].as_str().unwrap()))
        .unwrap();
    let foreign = upload.replace(r#""kind":"volume","#, "");
    let ended = scene.delete(&foreign);
    assert_eq!((ended.code(), ended.stdout.as_str(), uploads(&scene).len()), (0, "", 1));
    let then = catalog(&scene.place);
    for _ in 0..2 {
        // One that is gone is gone.
        let ended = scene.delete(&upload).done();
        assert!(ended.lines()[0]["upload_id"].is_string());
        assert!(uploads(&scene).is_empty());
    }
    assert_eq!(catalog(&scene.place), then, "only archives are in the catalog");
}

#[test]
fn a_stream_that_a_program_works_on_is_75_and_stays() {
    let scene = Scene::default();
    let lines = scene.chunk(Some("x"), &pattern(MIB));
    let kept = scene.store("y", &pattern(MIB));
    let id = parsed(&lines)[0]["stream"].as_str().unwrap().to_owned();
    let mut put = scene.server.put(&scene.place, &["--create-vault", "v"]);
    let mut put = start(put.stdin(std::process::Stdio::piped()));
    put.give(lines.split_inclusive('\n').next().unwrap().as_bytes());
    let lock = scene.place.stream(&id).join("put.lock");
    until("put holds its lock", || {
        std::fs::read_to_string(&lock).is_ok_and(|text| text.ends_with('\n'))
    });
    let busy = format!(
        "stream {id}: glacier-put (process {}) works on it; run the same command later",
        put.id()
    );
    // What nobody works on goes all the same.
    let ended = scene.delete(&(lines.clone() + &kept)).failed(75, &busy);
    assert_eq!(ended.lines().len(), 2);
    assert!(scene.place.stream(&id).join("lines.jsonl").exists());
    put.kill();
    put.finish();
    scene.delete(&lines).done();
    assert!(!scene.place.stream(&id).exists());
}

#[test]
fn a_stream_on_its_way_to_another_place_stays() {
    let scene = Scene::default();
    let (lines, _) = begun(&scene);
    let id = parsed(&lines)[0]["stream"].as_str().unwrap().to_owned();
    scene.rm(&["--yes", "w"], &lines).failed(
        65,
        &format!(
            "stdin: line 1: stream {id} is on its way to glacier://v; name that; nothing is \
             deleted"
        ),
    );
    scene.rm(&["--region", "us-west-2", "--yes", "v"], &lines).failed(
        78,
        &format!(
            "stream {id}: sent to glacier://v in eu-central-1, and this is us-west-2; use that \
             --region, or a vault of another name"
        ),
    );
    assert!(scene.place.stream(&id).join("put.jsonl").exists());
    assert_eq!(uploads(&scene).len(), 1);
}

#[test]
fn a_journal_of_another_stream_is_65_and_nothing_goes() {
    let scene = Scene::default();
    let (lines, _) = begun(&scene);
    let id = parsed(&lines)[0]["stream"].as_str().unwrap().to_owned();
    let other = scene.chunk(Some("y"), &pattern(MIB));
    let other = parsed(&other)[0]["stream"].as_str().unwrap().to_owned();
    let journal = scene.place.stream(&other).join("put.jsonl");
    std::fs::copy(scene.place.stream(&id).join("put.jsonl"), &journal).unwrap();
    let why = format!("stream {other}: its journal is that of stream {id}; ");
    scene.delete(&lines).failed_like(65, &why, "");
    assert!(scene.place.stream(&id).join("lines.jsonl").exists());
    assert_eq!(uploads(&scene).len(), 1);
}

#[test]
fn no_line_leads_out_of_the_spool() {
    let scene = Scene::default();
    let lines = scene.chunk(Some("x"), &pattern(MIB));
    let id = parsed(&lines)[0]["stream"].as_str().unwrap().to_owned();
    let outside = scene.place.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "kept").unwrap();
    std::fs::remove_dir_all(scene.place.stream(&id)).unwrap();
    std::os::unix::fs::symlink(&outside, scene.place.stream(&id)).unwrap();
    scene.delete(&lines).failed_like(74, &format!("stream {id}: cannot open"), "");
    assert_eq!(files(&outside).len(), 1);
    let hostile = lines.replace(&id, "../outside");
    assert_eq!(run_with(&mut scene.tool(&["--yes", "v"]), hostile.as_bytes()).code(), 65);
    assert_eq!(files(&outside).len(), 1);
}
