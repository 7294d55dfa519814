//! One member of etcd: its connections and the token by which it knows the user.

use super::error::EndpointError;
use super::gateway::{self, Denial};
use super::settings::{EtcdAddress, EtcdLogin, EtcdSettings};
use super::shared_task::SharedTask;
use crate::tls::TlsFiles;
use crate::tls::tokio_rustls::rustls::{self, pki_types::ServerName};
use crate::tls::tokio_rustls::{TlsConnector, client::TlsStream};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer beyond this is not etcd's, or not a cluster's.
const LARGEST_ANSWER: usize = 4 << 20;

/// A connection, TLS and the login may each take this long, on a slow machine too. Requests do not
/// wait for it but go elsewhere.
const SETUP_LIMIT: Duration = Duration::from_secs(5);

/// As many as there are requests at one time.
const MOST_IDLE: usize = 4;

type Sender = SendRequest<Full<Bytes>>;

#[derive(Debug)]
pub struct EtcdEndpoint {
    at: EtcdAddress,
    tls: TlsFiles,
    login: Option<EtcdLogin>,
    /// The keys of the cluster, for what is said to people.
    prefix: String,
    /// Connections that wait for a request.
    idle: Mutex<Vec<Sender>>,
    token: Mutex<Option<HeaderValue>>,
    connecting: SharedTask<Result<(), EndpointError>>,
    logging_in: SharedTask<Result<(), EndpointError>>,
}

/// What came of one request on one connection.
enum Exchange {
    Answered(StatusCode, Bytes),
    /// The connection is closed.
    Closed(hyper::Error),
    NotEtcd(String),
}

impl EtcdEndpoint {
    #[must_use]
    pub fn new(at: EtcdAddress, settings: &EtcdSettings, prefix: &str) -> Self {
        Self {
            at,
            tls: settings.tls.clone(),
            login: settings.login.clone(),
            prefix: prefix.to_owned(),
            idle: Mutex::default(),
            token: Mutex::default(),
            connecting: SharedTask::new(),
            logging_in: SharedTask::new(),
        }
    }

    /// Sends a request and returns the body of the answer. A token that is refused is renewed once.
    ///
    /// # Errors
    /// Returns the reason for which the member gave no usable answer. There is no time limit.
    pub async fn call(
        self: &Arc<Self>,
        path: &'static str,
        body: Bytes,
    ) -> Result<Bytes, EndpointError> {
        let token = self.token().await?;
        match self.post(path, body.clone(), token.clone()).await? {
            Ok(answer) => Ok(answer),
            Err(failure) if failure.is_of_token() && token.is_some() => {
                lock(&self.token).take_if(|known| Some(&*known) == token.as_ref());
                let token = self.token().await?;
                let again = self.post(path, body, token).await?;
                again.map_err(|failure| self.refused(failure))
            }
            Err(failure) => Err(self.refused(failure)),
        }
    }

    async fn token(self: &Arc<Self>) -> Result<Option<HeaderValue>, EndpointError> {
        let Some(login) = &self.login else { return Ok(None) };
        loop {
            if let Some(token) = lock(&self.token).clone() {
                return Ok(Some(token));
            }
            let start = || {
                let (endpoint, login) = (Arc::clone(self), login.clone());
                tokio::spawn(async move { endpoint.log_in(login).await })
            };
            self.joined(self.logging_in.join(start).await)?;
        }
    }

    async fn log_in(self: Arc<Self>, login: EtcdLogin) -> Result<(), EndpointError> {
        let body = gateway::authenticate(&login.user, login.password.reveal());
        let answer = timeout(SETUP_LIMIT, self.post(gateway::AUTHENTICATE, body, None));
        let answer = answer.await.map_err(|_| self.silent(SETUP_LIMIT))??;
        let answer = answer.map_err(|failure| self.refused(failure))?;
        let token = gateway::token(&answer).map_err(|what| self.not_etcd(what))?;
        let mut token =
            HeaderValue::try_from(token).map_err(|_| self.not_etcd("its token is odd".into()))?;
        token.set_sensitive(true);
        *lock(&self.token) = Some(token);
        Ok(())
    }

    /// Sends a request over a connection that exists, or over a new one.
    async fn post(
        self: &Arc<Self>,
        path: &'static str,
        body: Bytes,
        token: Option<HeaderValue>,
    ) -> Result<Result<Bytes, Denial>, EndpointError> {
        let mut sender = self.connection().await?;
        match self.exchange(&mut sender, path, body, token).await {
            Exchange::Answered(StatusCode::OK, answer) => {
                self.keep(sender);
                Ok(Ok(answer))
            }
            Exchange::Answered(status, answer) => {
                self.keep(sender);
                gateway::failure(status, &answer).map(Err).map_err(|what| self.not_etcd(what))
            }
            Exchange::Closed(source) => Err(self.broken(source)),
            Exchange::NotEtcd(what) => Err(self.not_etcd(what)),
        }
    }

    async fn exchange(
        &self,
        sender: &mut Sender,
        path: &'static str,
        body: Bytes,
        token: Option<HeaderValue>,
    ) -> Exchange {
        if let Err(error) = sender.ready().await {
            return Exchange::Closed(error);
        }
        let request = Request::post(path)
            .header(HOST, self.at.authority())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = match token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        };
        let request = match request.body(Full::new(body)) {
            Ok(request) => request,
            Err(error) => return Exchange::NotEtcd(error.to_string()),
        };
        let answer = match sender.send_request(request).await {
            Ok(answer) => answer,
            Err(error) if error.is_parse() => return Exchange::NotEtcd(error.to_string()),
            Err(error) => return Exchange::Closed(error),
        };
        let (head, body) = answer.into_parts();
        match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => Exchange::Answered(head.status, body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Exchange::NotEtcd(format!("an answer of more than {LARGEST_ANSWER} bytes"))
            }
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(error) if !error.is_parse() => Exchange::Closed(*error),
                Ok(error) => Exchange::NotEtcd(error.to_string()),
                Err(error) => Exchange::NotEtcd(error.to_string()),
            },
        }
    }

    async fn connection(self: &Arc<Self>) -> Result<Sender, EndpointError> {
        loop {
            if let Some(idle) = self.idle() {
                return Ok(idle);
            }
            let start = || {
                let endpoint = Arc::clone(self);
                tokio::spawn(async move {
                    let connected = timeout(SETUP_LIMIT, endpoint.connect()).await;
                    connected.unwrap_or_else(|_| Err(endpoint.silent(SETUP_LIMIT)))
                })
            };
            self.joined(self.connecting.join(start).await)?;
        }
    }

    /// A connection that etcd has closed meanwhile is passed over. If that is not known yet, the
    /// request fails, and goes to the next member at once.
    fn idle(&self) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    fn keep(&self, sender: Sender) {
        let mut idle = lock(&self.idle);
        if idle.len() < MOST_IDLE {
            idle.push(sender);
        }
    }

    /// Adds a connection to those that wait.
    async fn connect(&self) -> Result<(), EndpointError> {
        let unreachable = |source| EndpointError::Unreachable { at: self.at.clone(), source };
        let stream = TcpStream::connect((self.at.host.as_str(), self.at.port)).await;
        let stream = stream.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        if self.at.has_tls {
            self.serve(TokioIo::new(self.secure(stream).await?)).await
        } else {
            self.serve(TokioIo::new(stream)).await
        }
    }

    async fn secure(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, EndpointError> {
        let at = || self.at.clone();
        let files = self.tls.clone();
        // Files may lie on a slow disk. They are read at each connection, since they are renewed.
        let config = match tokio::task::spawn_blocking(move || files.load()).await {
            Ok(config) => config.map_err(|source| EndpointError::TlsSetup { at: at(), source })?,
            Err(error) => {
                let source = io::Error::other(error);
                return Err(EndpointError::Unreachable { at: at(), source });
            }
        };
        let name = ServerName::try_from(self.at.host.clone())
            .map_err(|_| EndpointError::ServerName { at: at() })?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|source| match tls_error(&source) {
            Some(source) => EndpointError::Tls { at: at(), source },
            None if is_closing(&source) => EndpointError::ClosedInHandshake { at: at() },
            None => EndpointError::Unreachable { at: at(), source },
        })
    }

    async fn serve<T>(&self, stream: T) -> Result<(), EndpointError>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(stream).await.map_err(|source| self.broken(source))?;
        // Its end shows in the sender.
        tokio::spawn(connection);
        self.keep(sender);
        Ok(())
    }

    /// What came of a task that others may have waited for too.
    fn joined(
        &self,
        result: io::Result<Option<Result<(), EndpointError>>>,
    ) -> Result<(), EndpointError> {
        match result {
            Ok(done) => done.unwrap_or(Ok(())),
            Err(source) => Err(EndpointError::Unreachable { at: self.at.clone(), source }),
        }
    }

    /// A client certificate that is refused shows after the handshake of TLS 1.3.
    fn broken(&self, source: hyper::Error) -> EndpointError {
        let io = source.source().and_then(|source| source.downcast_ref::<io::Error>());
        match io.and_then(tls_error) {
            Some(source) => EndpointError::Tls { at: self.at.clone(), source },
            None if !self.at.has_tls && source.is_incomplete_message() => {
                EndpointError::ClosedUnanswered { at: self.at.clone() }
            }
            None => EndpointError::Broken { at: self.at.clone(), source },
        }
    }

    /// The member has not answered for so long.
    #[must_use]
    pub fn silent(&self, after: Duration) -> EndpointError {
        EndpointError::Silent { at: self.at.clone(), after }
    }

    /// The answer is not what etcd says.
    #[must_use]
    pub fn not_etcd(&self, what: String) -> EndpointError {
        EndpointError::NotEtcd { at: self.at.clone(), what }
    }

    fn refused(&self, failure: Denial) -> EndpointError {
        let at = self.at.clone();
        match failure {
            Denial::Login => {
                let user = self.login.as_ref().map(|login| login.user.clone());
                EndpointError::Login { at, user: user.unwrap_or_default() }
            }
            Denial::NoUser => EndpointError::NoUser { at },
            Denial::NoAuthentication => EndpointError::NoAuthentication { at },
            Denial::Permission => EndpointError::Permission { at, prefix: self.prefix.clone() },
            Denial::NoSpace => EndpointError::NoSpace { at },
            Denial::Token(reason) | Denial::Other(reason) => EndpointError::Refused { at, reason },
        }
    }
}

fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

/// The errors by which the closing of the other side shows.
fn is_closing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
