//! Signature version 4: does a request come from who holds the secret?
//!
//! Written from the "Signature Version 4 signing process", so that it shares
//! nothing with the client's SDK. The canonical request is made from what was
//! received: the path as it came (each segment encoded once more), the Host
//! header that the client signed, and the hash of the body that the client
//! declares. That the body has that hash is checked where it is read.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::reply::{Answer, Refusal};

/// How far the client's clock may be off.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// A key pair.
#[derive(Clone)]
pub struct Keys {
    /// The access key id, which is no secret.
    pub id: String,
    /// The secret access key.
    pub secret: String,
}

/// What of a request is signed.
pub struct Message<'a> {
    /// GET and its like.
    pub method: &'a str,
    /// The path as it came.
    pub path: &'a str,
    /// The names and values of the query, decoded.
    pub query: &'a [(String, String)],
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The SHA-256 of the body, in hexadecimal, as the client has it.
    pub body_sha256: &'a str,
}

/// The Authorization header, taken apart.
struct Authorization<'a> {
    key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// Checks the signature of a request at a real time; gives its region.
pub fn verify(message: &Message, keys: &Keys, now: Timestamp) -> Answer<String> {
    let header = message.headers.get("authorization").ok_or_else(|| {
        Refusal::new(400, "MissingAuthenticationTokenException", "Missing Authentication Token")
    })?;
    let auth = header
        .to_str()
        .ok()
        .and_then(read_authorization)
        .ok_or_else(|| incorrect("The Authorization header is not of AWS4-HMAC-SHA256 form"))?;
    if auth.service != "glacier" {
        return Err(incorrect("Credential should be scoped to correct service: 'glacier'"));
    }
    let region =
        auth.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && (1..=63).contains(&auth.region.len());
    if !region {
        return Err(incorrect("Credential should be scoped to a valid region"));
    }
    for name in ["host", "x-amz-date", "x-amz-security-token"] {
        if message.headers.contains_key(name) && !auth.signed.contains(&name) {
            return Err(incorrect(&format!("Header {name} is not signed")));
        }
    }
    let time = text(message.headers, "x-amz-date")
        .ok_or_else(|| incorrect("There is no X-Amz-Date header"))?;
    check_time(time, auth.date, now)?;
    if auth.key != keys.id {
        return Err(Refusal::new(
            400,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ));
    }
    let request = canonical(message, &auth.signed)
        .ok_or_else(|| incorrect("A signed header is missing from the request"))?;
    let scope = format!("{}/{}/{}/aws4_request", auth.date, auth.region, auth.service);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex::encode(Sha256::digest(request.as_bytes()))
    );
    let given = hex::decode(auth.signature).unwrap_or_default();
    signer(&keys.secret, &auth, &to_sign)
        .and_then(|mac| mac.verify_slice(&given).ok())
        .ok_or_else(|| {
            incorrect(
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method. Consult the service \
                 documentation for details.",
            )
        })?;
    Ok(auth.region.to_owned())
}

fn incorrect(message: &str) -> Refusal {
    Refusal::new(403, "InvalidSignatureException", message)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `AWS4-HMAC-SHA256 Credential=…/date/region/service/aws4_request,
/// SignedHeaders=a;b, Signature=…`
fn read_authorization(header: &str) -> Option<Authorization<'_>> {
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for field in header.strip_prefix("AWS4-HMAC-SHA256")?.split(',') {
        match field.trim().split_once('=')? {
            ("Credential", value) => credential = Some(value),
            ("SignedHeaders", value) => signed = Some(value),
            ("Signature", value) => signature = Some(value),
            _ => return None,
        }
    }
    let mut scope = credential?.split('/');
    let auth = Authorization {
        key: scope.next()?,
        date: scope.next()?,
        region: scope.next()?,
        service: scope.next()?,
        signed: signed?.split(';').collect(),
        signature: signature?,
    };
    let ends = scope.next() == Some("aws4_request") && scope.next().is_none();
    (ends && auth.signed.contains(&"host")).then_some(auth)
}

/// Refuses a signature of another day or more than five minutes off.
fn check_time(text: &str, date: &str, now: Timestamp) -> Answer<()> {
    let basic = |time: Timestamp| time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", text)
        .and_then(|time| TimeZone::UTC.to_timestamp(time))
        .map_err(|_| incorrect("X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ"))?;
    if !text.starts_with(date) || date.len() != 8 {
        return Err(incorrect("Date in Credential scope does not match YYYYMMDD from X-Amz-Date"));
    }
    let (oldest, newest) = (now - GRACE, now + GRACE);
    if signed < oldest {
        return Err(incorrect(&format!(
            "Signature expired: {text} is now earlier than {} ({} - 5 min.)",
            basic(oldest),
            basic(now)
        )));
    }
    if signed > newest {
        return Err(incorrect(&format!(
            "Signature not yet current: {text} is still later than {} ({} + 5 min.)",
            basic(newest),
            basic(now)
        )));
    }
    Ok(())
}

/// The canonical request; none if a signed header is not there.
fn canonical(message: &Message, signed: &[&str]) -> Option<String> {
    let path: Vec<String> = message.path.split('/').map(encode).collect();
    let mut query: Vec<(String, String)> =
        message.query.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    query.sort();
    let query: Vec<String> =
        query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in signed {
        let mut values = message.headers.get_all(*name).iter().peekable();
        values.peek()?;
        let values: Vec<String> = values
            .map(|value| {
                let value = String::from_utf8_lossy(value.as_bytes());
                value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
            })
            .collect();
        headers.extend([name, ":", &values.join(","), "\n"]);
    }
    Some(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        message.method,
        path.join("/"),
        query.join("&"),
        signed.join(";"),
        message.body_sha256
    ))
}

/// Percent-encoding of all but the unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

/// The keyed hash of the string to sign; comparing with it takes constant time.
fn signer(secret: &str, auth: &Authorization, to_sign: &str) -> Option<Hmac<Sha256>> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for step in [auth.date, auth.region, auth.service, "aws4_request"] {
        key = keyed(&key, step)?.finalize().into_bytes().to_vec();
    }
    keyed(&key, to_sign)
}

fn keyed(key: &[u8], data: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(data.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn keys() -> Keys {
        Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The example of the developer guide, "Signing Requests".
    fn example() -> HeaderMap {
        headers(&[
            ("host", "glacier.us-east-1.amazonaws.com"),
            ("x-amz-date", "20120525T002453Z"),
            ("x-amz-glacier-version", "2012-06-01"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20120525/us-east-1/glacier/aws4_request,\
                 SignedHeaders=host;x-amz-date;x-amz-glacier-version,\
                 Signature=3ce5b2f2fffac9262b4da9256f8d086b4aaf42eba5f111c21681a65a127b7c2a",
            ),
        ])
    }

    fn check(headers: &HeaderMap, path: &str, keys: &Keys, now: &str) -> Result<String, String> {
        let message = Message { method: "PUT", path, query: &[], headers, body_sha256: EMPTY };
        verify(&message, keys, at(now)).map_err(|refusal| refusal.message)
    }

    #[test]
    fn accepts_the_developer_guides_example() {
        let found = check(&example(), "/-/vaults/examplevault", &keys(), "2012-05-25T00:24:53Z");
        assert_eq!(found.as_deref(), Ok("us-east-1"));
    }

    #[test]
    fn refuses_any_other_path_header_or_secret() {
        let now = "2012-05-25T00:24:53Z";
        let path = "/-/vaults/examplevault";
        assert!(check(&example(), "/-/vaults/examplevault2", &keys(), now).is_err());
        let mut other = example();
        other.insert("x-amz-glacier-version", "2012-06-02".parse().unwrap());
        assert!(check(&other, path, &keys(), now).is_err());
        let wrong = Keys { secret: "wrong".to_owned(), ..keys() };
        assert!(check(&example(), path, &wrong, now).unwrap_err().contains("does not match"));
        other = example();
        other.remove("x-amz-glacier-version");
        assert!(check(&other, path, &keys(), now).unwrap_err().contains("missing"));
        let unknown = Keys { id: "AKIAOTHER".to_owned(), ..keys() };
        assert!(check(&example(), path, &unknown, now).unwrap_err().contains("token"));
    }

    #[test]
    fn refuses_a_signature_more_than_five_minutes_off() {
        let path = "/-/vaults/examplevault";
        assert!(check(&example(), path, &keys(), "2012-05-25T00:29:53Z").is_ok());
        let late = check(&example(), path, &keys(), "2012-05-25T00:29:54Z").unwrap_err();
        assert_eq!(
            late,
            "Signature expired: 20120525T002453Z is now earlier than 20120525T002454Z \
             (20120525T002954Z - 5 min.)"
        );
        assert!(check(&example(), path, &keys(), "2012-05-25T00:19:53Z").is_ok());
        let early = check(&example(), path, &keys(), "2012-05-25T00:19:52Z").unwrap_err();
        assert!(early.starts_with("Signature not yet current"), "{early}");
    }

    /// `get-vanilla` and `get-vanilla-query-order-key-case` of the published
    /// test suite.
    #[test]
    fn makes_the_signatures_of_the_published_suite() {
        let headers =
            headers(&[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]);
        let query = [("Param2", "value2"), ("Param1", "value1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let auth = Authorization {
            key: "AKIDEXAMPLE",
            date: "20150830",
            region: "us-east-1",
            service: "service",
            signed: vec!["host", "x-amz-date"],
            signature: "",
        };
        for (query, expected) in [
            (&query[..0], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (&query[..], "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ] {
            let message =
                Message { method: "GET", path: "/", query, headers: &headers, body_sha256: EMPTY };
            let request = canonical(&message, &auth.signed).unwrap();
            let to_sign = format!(
                "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n{}",
                hex::encode(Sha256::digest(request.as_bytes()))
            );
            let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let mac = signer(secret, &auth, &to_sign).unwrap();
            assert_eq!(hex::encode(mac.finalize().into_bytes()), expected);
        }
    }

    #[test]
    fn encodes_the_path_once_more_and_squeezes_headers() {
        let headers = headers(&[("host", "h"), ("x-amz-archive-description", "  a   b  ")]);
        let query = [("marker".to_owned(), "a b/c".to_owned())];
        let message = Message {
            method: "GET",
            path: "/-/vaults/a%20b",
            query: &query,
            headers: &headers,
            body_sha256: EMPTY,
        };
        let request = canonical(&message, &["host", "x-amz-archive-description"]).unwrap();
        assert_eq!(
            request,
            format!(
                "GET\n/-/vaults/a%2520b\nmarker=a%20b%2Fc\nhost:h\nx-amz-archive-description:a b\n\n\
                 host;x-amz-archive-description\n{EMPTY}"
            )
        );
    }

    #[test]
    fn refuses_a_request_without_a_signature() {
        let refusal = verify(
            &Message {
                method: "GET",
                path: "/",
                query: &[],
                headers: &HeaderMap::new(),
                body_sha256: EMPTY,
            },
            &keys(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(refusal.unwrap_err().code, "MissingAuthenticationTokenException");
    }
}
