//! Which of the service's calls a request is.

use serde::Deserialize;

use super::reply::{Answer, Refusal};
use super::store;

/// A call of the vault API, by the service's own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Call {
    ListVaults,
    CreateVault,
    DescribeVault,
    DeleteVault,
    UploadArchive,
    DeleteArchive,
    InitiateMultipartUpload,
    ListMultipartUploads,
    UploadMultipartPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    InitiateJob,
    ListJobs,
    DescribeJob,
    GetJobOutput,
    AddTagsToVault,
    RemoveTagsFromVault,
    ListTagsForVault,
    SetVaultAccessPolicy,
    GetVaultAccessPolicy,
    DeleteVaultAccessPolicy,
    InitiateVaultLock,
    CompleteVaultLock,
    GetVaultLock,
    AbortVaultLock,
    SetVaultNotifications,
    GetVaultNotifications,
    DeleteVaultNotifications,
    GetDataRetrievalPolicy,
    SetDataRetrievalPolicy,
    ListProvisionedCapacity,
    PurchaseProvisionedCapacity,
}

impl Call {
    /// Does its body hold archive bytes?
    pub fn carries_archive(self) -> bool {
        matches!(self, Self::UploadArchive | Self::UploadMultipartPart)
    }
}

/// A call, and what its path names; empty where it names nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The call.
    pub call: Call,
    /// The vault, a name that was checked.
    pub vault: String,
    /// The archive, upload, job or lock; not checked yet.
    pub id: String,
}

/// Finds the call for a method, a path and a decoded query.
pub fn route(method: &str, path: &str, query: &[(String, String)]) -> Answer<Route> {
    use Call::{
        AbortMultipartUpload, AbortVaultLock, AddTagsToVault, CompleteMultipartUpload,
        CompleteVaultLock, CreateVault, DeleteArchive, DeleteVault, DeleteVaultAccessPolicy,
        DeleteVaultNotifications, DescribeJob, DescribeVault, GetDataRetrievalPolicy, GetJobOutput,
        GetVaultAccessPolicy, GetVaultLock, GetVaultNotifications, InitiateJob,
        InitiateMultipartUpload, InitiateVaultLock, ListJobs, ListMultipartUploads, ListParts,
        ListProvisionedCapacity, ListTagsForVault, ListVaults, PurchaseProvisionedCapacity,
        RemoveTagsFromVault, SetDataRetrievalPolicy, SetVaultAccessPolicy, SetVaultNotifications,
        UploadArchive, UploadMultipartPart,
    };

    let unknown = || Refusal::new(404, "UnknownOperationException", "There is no such call");
    let decoded: Option<Vec<String>> = path.split('/').map(decode).collect();
    let decoded = decoded.ok_or_else(unknown)?;
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let ["", account, rest @ ..] = segments.as_slice() else { return Err(unknown()) };
    if *account != "-" && !(account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Refusal::invalid(format!(
            "Invalid account ID: {account}; it is 12 digits, or '-' for your own"
        )));
    }
    let operation = query.iter().find(|(name, _)| name == "operation").map(|(_, value)| &**value);

    let (call, vault, id) = match (method, rest) {
        ("GET", ["vaults"]) => (ListVaults, "", ""),
        ("GET", ["policies", "data-retrieval"]) => (GetDataRetrievalPolicy, "", ""),
        ("PUT", ["policies", "data-retrieval"]) => (SetDataRetrievalPolicy, "", ""),
        ("GET", ["provisioned-capacity"]) => (ListProvisionedCapacity, "", ""),
        ("POST", ["provisioned-capacity"]) => (PurchaseProvisionedCapacity, "", ""),
        ("PUT", ["vaults", vault]) => (CreateVault, *vault, ""),
        ("GET", ["vaults", vault]) => (DescribeVault, *vault, ""),
        ("DELETE", ["vaults", vault]) => (DeleteVault, *vault, ""),
        ("POST", ["vaults", vault, "archives"]) => (UploadArchive, *vault, ""),
        ("DELETE", ["vaults", vault, "archives", id]) => (DeleteArchive, *vault, *id),
        ("POST", ["vaults", vault, "multipart-uploads"]) => (InitiateMultipartUpload, *vault, ""),
        ("GET", ["vaults", vault, "multipart-uploads"]) => (ListMultipartUploads, *vault, ""),
        (method, ["vaults", vault, "multipart-uploads", id]) => match method {
            "PUT" => (UploadMultipartPart, *vault, *id),
            "POST" => (CompleteMultipartUpload, *vault, *id),
            "DELETE" => (AbortMultipartUpload, *vault, *id),
            "GET" => (ListParts, *vault, *id),
            _ => return Err(unknown()),
        },
        ("POST", ["vaults", vault, "jobs"]) => (InitiateJob, *vault, ""),
        ("GET", ["vaults", vault, "jobs"]) => (ListJobs, *vault, ""),
        ("GET", ["vaults", vault, "jobs", id]) => (DescribeJob, *vault, *id),
        ("GET", ["vaults", vault, "jobs", id, "output"]) => (GetJobOutput, *vault, *id),
        ("GET", ["vaults", vault, "tags"]) => (ListTagsForVault, *vault, ""),
        ("POST", ["vaults", vault, "tags"]) => match operation {
            Some("add") => (AddTagsToVault, *vault, ""),
            Some("remove") => (RemoveTagsFromVault, *vault, ""),
            Some(other) => {
                return Err(Refusal::invalid(format!("Invalid operation: {other}")));
            }
            None => return Err(Refusal::missing("operation")),
        },
        (method, ["vaults", vault, "access-policy"]) => match method {
            "PUT" => (SetVaultAccessPolicy, *vault, ""),
            "GET" => (GetVaultAccessPolicy, *vault, ""),
            "DELETE" => (DeleteVaultAccessPolicy, *vault, ""),
            _ => return Err(unknown()),
        },
        (method, ["vaults", vault, "lock-policy"]) => match method {
            "POST" => (InitiateVaultLock, *vault, ""),
            "GET" => (GetVaultLock, *vault, ""),
            "DELETE" => (AbortVaultLock, *vault, ""),
            _ => return Err(unknown()),
        },
        ("POST", ["vaults", vault, "lock-policy", id]) => (CompleteVaultLock, *vault, *id),
        (method, ["vaults", vault, "notification-configuration"]) => match method {
            "PUT" => (SetVaultNotifications, *vault, ""),
            "GET" => (GetVaultNotifications, *vault, ""),
            "DELETE" => (DeleteVaultNotifications, *vault, ""),
            _ => return Err(unknown()),
        },
        _ => return Err(unknown()),
    };
    if matches!(rest, ["vaults", _, ..]) {
        store::check_vault_name(vault)?;
    }
    Ok(Route { call, vault: vault.to_owned(), id: id.to_owned() })
}

/// The names and values of a query, decoded, in the order they came.
pub fn query(text: &str) -> Answer<Vec<(String, String)>> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::invalid("The query is not percent-encoded UTF-8"))
}

/// Percent-decoding; a plus is a plus, and a percent sign without two digits
/// is an error.
fn decode(text: &str) -> Option<String> {
    let is_code = |rest: &str| {
        rest.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    text.split('%').skip(1).all(is_code).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Result<Route, String> {
        route(method, path, &[]).map_err(|refusal| refusal.code.into_owned())
    }

    #[test]
    fn finds_calls_by_method_and_path() {
        let route = |call, vault: &str, id: &str| {
            Ok(Route { call, vault: vault.to_owned(), id: id.to_owned() })
        };
        assert_eq!(found("GET", "/-/vaults"), route(Call::ListVaults, "", ""));
        assert_eq!(found("PUT", "/012345678901/vaults/a.b"), route(Call::CreateVault, "a.b", ""));
        assert_eq!(
            found("DELETE", "/-/vaults/v/archives/%2Dx"),
            route(Call::DeleteArchive, "v", "-x")
        );
        assert_eq!(found("GET", "/-/vaults/v/jobs/j/output"), route(Call::GetJobOutput, "v", "j"));
    }

    #[test]
    fn refuses_what_is_no_call() {
        assert_eq!(found("GET", "/"), Err("InvalidParameterValueException".to_owned()));
        assert_eq!(
            found("GET", "/-/vaults/v/nothing"),
            Err("UnknownOperationException".to_owned())
        );
        assert_eq!(found("PATCH", "/-/vaults/v"), Err("UnknownOperationException".to_owned()));
        assert_eq!(found("GET", "/12/vaults"), Err("InvalidParameterValueException".to_owned()));
        assert_eq!(found("PUT", "/-/vaults/%zz"), Err("UnknownOperationException".to_owned()));
        assert_eq!(
            found("POST", "/-/vaults/v/tags"),
            Err("MissingParameterValueException".to_owned())
        );
    }

    #[test]
    fn refuses_names_that_would_leave_the_root() {
        for name in ["..", ".", "%2e%2e", "a%2Fb", "", "%00", &"n".repeat(256), "%C3%BC"] {
            let found = found("PUT", &format!("/-/vaults/{name}"));
            assert_eq!(found, Err("InvalidParameterValueException".to_owned()), "{name}");
        }
    }
}
