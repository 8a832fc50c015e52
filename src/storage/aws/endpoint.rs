//! What may be spoken to: https, and this machine itself.

use std::fmt;
use std::net::IpAddr;

/// Where machines of AWS get their credentials: addresses of the link, which
/// no router passes on (169.254.0.0/16, and those in `fd00:ec2::/32`).
const METADATA: [&str; 5] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"];

/// Why nothing was sent.
#[derive(Debug)]
pub struct NotSafe(pub String);

impl fmt::Display for NotSafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotSafe {}

impl NotSafe {
    /// The refusal in an error, if that is what it is about.
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<String> {
        find::<Self>(error).map(ToString::to_string)
    }
}

/// An error of this type, in an error or behind it.
pub fn find<'e, E: std::error::Error + 'static>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error's source is that of the error it was made of.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref())
            && let Some(found) = find(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// How a request leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Encrypted, perhaps through a proxy.
    Through,
    /// In the clear, to this machine or its link, and through no proxy.
    Here,
}

/// How a URL may be spoken to: https, or plain http to this machine
/// itself. A name is this machine only if it is `localhost`, which is not
/// looked up; an address only if it is a loopback address as it is written.
///
/// # Errors
/// Why not. User information is refused, as it can look like a host.
pub fn check(url: &str) -> Result<Way, NotSafe> {
    let no = |why: &str| Err(NotSafe(format!("{url}: {why}")));
    let Ok(uri) = url.parse::<hyper::Uri>() else { return no("not a URL") };
    let Some(authority) = uri.authority() else { return no("not a URL") };
    if authority.as_str().contains('@') {
        return no("user and password have no place in an endpoint");
    }
    match uri.scheme_str() {
        Some("https") => Ok(Way::Through),
        Some("http") if is_here(authority.host()) => Ok(Way::Here),
        _ => no("not https; plain http is for this machine's loopback only"),
    }
}

/// The address that is written in a URL as a host.
fn address(host: &str) -> Option<IpAddr> {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match v6 {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|ip| ip.is_loopback())
}

/// Whether it is where a machine of AWS asks for credentials.
pub fn is_metadata(url: &str) -> bool {
    url.parse::<hyper::Uri>().is_ok_and(|uri| {
        let is_one = |ip: IpAddr| METADATA.iter().any(|known| known.parse() == Ok(ip));
        uri.scheme_str() == Some("http") && uri.host().and_then(address).is_some_and(is_one)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for good in [
            "https://glacier.eu-central-1.amazonaws.com",
            "HTTPS://glacier.eu-central-1.amazonaws.com",
            "http://127.0.0.1:5555/",
            "http://127.1.2.3",
            "http://localhost:1",
            "http://LOCALHOST:1",
            "HTTP://127.0.0.1",
            "http://[::1]:80",
            "http://[0:0:0:0:0:0:0:1]",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
            "http://127.0.0.1:80@evil.example",
            "https://127.0.0.1@evil.example",
            "http://user:pass@127.0.0.1",
            "http://evil.example#@127.0.0.1",
            "http://evil.example\\@127.0.0.1",
            "http://127.0.0.1\\.evil.example",
            "http://127.0.0.1%2eevil.example",
            "http://127.0.0.1 .evil.example",
            "http://127.0.0.1\t",
            "http://localhost.evil.example",
            "http://localhost.",
            "http://127.0.0.1.",
            "http://127.1",
            "http://127.0.0.1.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://0x7f000001",
            "http://0177.0.0.1",
            "http://127.0.0.01",
            "http://0.0.0.0",
            "http://[::]",
            "http://[::ffff:127.0.0.1]",
            "http://[::1%25lo]",
            "http://[::1%lo]",
            "http://[fe80::1%25eth0]",
            "http://::1",
            "http://[[::1]]",
            "http://[127.0.0.1]",
            "http://[localhost]",
            "http://\u{ff11}27.0.0.1",
            "http://127\u{3002}0.0.1",
            "http://loc\u{430}lhost",
            "http://ip6-localhost",
            "http://10.0.0.1",
            "http://169.254.169.254",
            "http:///127.0.0.1",
            "http:127.0.0.1",
            "//127.0.0.1",
            "ftp://127.0.0.1",
            "httpx://127.0.0.1",
            "127.0.0.1:80",
            "localhost",
            "",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_of_a_machine_come_from_its_link() {
        assert!(is_metadata("http://169.254.169.254/latest/meta-data/"));
        assert!(is_metadata("http://[fd00:ec2::254]/latest/"));
        assert!(!is_metadata("http://169.254.169.254.evil.example/"));
        assert!(!is_metadata("http://169.254.169.253/"));
    }

    /// The order of the list is no order of trust: each is an address.
    #[test]
    fn every_address_of_the_link_is_one() {
        assert!(METADATA.iter().all(|known| known.parse::<IpAddr>().is_ok()));
    }
}
