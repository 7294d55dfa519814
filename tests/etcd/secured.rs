//! TLS, client certificates, users and passwords.

use crate::certificates::Certificates;
use crate::members::{Members, ask, read, record, renewal};
use iotmonitor::etcd::EtcdStore;
use iotmonitor::etcd::settings::{EtcdLogin, EtcdSettings};
use iotmonitor::secret::Secret;
use iotmonitor::tls::TlsFiles;
use iotmonitor_core::model::cluster::store::{StoreAnswer, StoreRequest};
use serde_json::json;

async fn failure(settings: &EtcdSettings) -> String {
    ask(&EtcdStore::new(settings), &StoreRequest::Read).await.unwrap_err().to_string()
}

#[tokio::test]
async fn tls_with_client_certificates_and_what_is_said_without() {
    let certificates = Certificates::make();
    let argument =
        |name: &str, file: &str| format!("--{name}={}", certificates.path(file).display());
    let arguments = [
        argument("cert-file", "server.crt"),
        argument("key-file", "server.key"),
        argument("trusted-ca-file", "ca.crt"),
        "--client-cert-auth=true".to_owned(),
    ];
    let members = Members::with(1, "https", &arguments);
    let client = Some((certificates.path("client.crt"), certificates.path("client.key")));
    let with = |ca: Option<&str>, client_certificate| EtcdSettings {
        tls: TlsFiles { ca_file: ca.map(|ca| certificates.path(ca)), client_certificate },
        ..members.settings()
    };
    members.answer(&with(Some("ca.crt"), client.clone())).await;
    let error = failure(&with(Some("stranger.crt"), client.clone())).await;
    assert!(error.contains("signed the certificates of etcd with `caFile`"), "{error}");
    let error = failure(&with(Some("ca.crt"), None)).await;
    assert!(error.contains("check `certFile` and `keyFile`"), "{error}");
    let error = failure(&with(Some("missing.crt"), client)).await;
    assert!(error.contains("cannot read") && error.contains("missing.crt"), "{error}");

    let mut plain = members.settings();
    plain.endpoints[0].has_tls = false;
    let error = failure(&plain).await;
    assert!(error.contains("does it want TLS?"), "{error}");
}

#[tokio::test]
async fn tls_to_a_port_without_it_says_so() {
    let members = Members::start(1).await;
    let mut settings = members.settings();
    settings.endpoints[0].has_tls = true;
    let certificates = Certificates::make();
    settings.tls.ca_file = Some(certificates.path("ca.crt"));
    let error = failure(&settings).await;
    assert!(error.contains("is it a port without TLS?"), "{error}");
}

#[tokio::test]
async fn a_user_logs_in_and_a_token_that_is_refused_is_renewed() {
    let members = Members::start(3).await;
    let post = |path: &str, body| members.post(0, &format!("/v3/auth/{path}"), &body);
    for (user, role) in [("root", "root"), ("pi", "house"), ("guest", "nothing")] {
        post("role/add", json!({ "name": role }));
        post("user/add", json!({ "name": user, "password": "right" }));
        post("user/grant", json!({ "user": user, "role": role }));
    }
    // "/iotmonitor/house/" to "/iotmonitor/house0"
    let keys = json!({ "permType": "READWRITE", "key": "L2lvdG1vbml0b3IvaG91c2Uv",
                       "range_end": "L2lvdG1vbml0b3IvaG91c2Uw" });
    post("role/grant", json!({ "name": "house", "perm": keys }));
    let login = |user: &str, password: &str| EtcdSettings {
        login: Some(EtcdLogin {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
        }),
        ..members.settings()
    };
    let error = failure(&login("pi", "right")).await;
    assert!(error.contains("run `etcdctl auth enable`"), "{error}");
    post("enable", json!({}));

    // Another member would be asked with a token of its own.
    let one = EtcdSettings { endpoints: vec![members.address(0)], ..login("pi", "right") };
    let store = EtcdStore::new(&one);
    let answer = ask(&store, &renewal(None, record(1))).await.unwrap();
    assert!(matches!(answer, StoreAnswer::Committed(_)), "{answer:?}");
    let before = read(&store).await;
    // etcd forgets the tokens of a user whose password is set, in each member.
    let root = post("authenticate", json!({ "name": "root", "password": "right" }));
    let set = json!({ "name": "pi", "password": "right" });
    members.post_with(0, "/v3/auth/user/changepw", &set, root["token"].as_str());
    assert_eq!(read(&store).await, before);

    let error = failure(&login("pi", "wrong secret")).await;
    assert!(error.contains("refused the user `pi` or the password"), "{error}");
    assert!(!error.contains("wrong secret"), "{error}");
    let error = failure(&members.settings()).await;
    assert!(error.contains("set `user` and `passwordFile`"), "{error}");
    let error = failure(&login("guest", "right")).await;
    assert!(error.contains("--prefix=true readwrite /iotmonitor/house/`"), "{error}");
}
