#include "krait/server/http_server.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <random>
#include <set>

#include "krait/server/http_session.h"

namespace krait::server {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using SessionPtr = std::shared_ptr<HttpSession>;

constexpr auto kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

struct HttpServer::Impl {
  Impl(HttpOptions options, HttpHandler& handler)
      : shared{.options = std::move(options),
               .handler = handler,
               .workers{static_cast<std::size_t>(std::max(options.workers, 1))},
               .ids = Random(std::random_device{}())},
        acceptor(shared.io),
        signals(shared.io),
        drain_timer(shared.io) {}

  HttpShared shared;
  tcp::acceptor acceptor;
  std::optional<asio::ssl::context> tls;
  asio::signal_set signals;
  asio::steady_timer drain_timer;
  std::set<SessionPtr> sessions;
  std::atomic<std::int64_t> open{0};

  Result<void> listen();
  asio::awaitable<void> accept();
  asio::awaitable<void> serve(SessionPtr session);
  void begin_drain();
  void cut();
  void end_if_drained();
  void wait_for_signal();
};

Result<void> HttpServer::Impl::listen() {
  const HttpOptions& options = shared.options;
  if (!options.tls_certificate.empty()) {
    auto context = tls_context(options.tls_certificate, options.tls_key);
    if (!context) return std::unexpected(std::move(context).error());
    tls.emplace(*std::move(context));
  }
  boost::system::error_code ec;
  tcp::resolver resolver(shared.io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, ec);
  if (ec || found.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[server] {} is no address of this machine: {}", options.host,
                ec ? ec.message() : std::string("no address"));
  }
  const tcp::endpoint endpoint = *found.begin();
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  // A signal that comes before run() waits for it.
  if (!ec) signals.add(SIGTERM, ec);
  if (!ec) signals.add(SIGINT, ec);
  if (ec) {
    return fail(ErrorCode::kInputOutput, "[server] cannot listen on {} port {}: {}", options.host, options.port,
                ec.message());
  }
  return {};
}

asio::awaitable<void> HttpServer::Impl::accept() {
  const HttpOptions& options = shared.options;
  while (acceptor.is_open()) {
    auto [ec, socket] = co_await acceptor.async_accept(kTuple);
    if (!acceptor.is_open()) co_return;
    if (ec) {
      // Out of descriptors, most likely: others must end first.
      asio::steady_timer pause(shared.io, kAcceptPause);
      co_await pause.async_wait(kTuple);
      continue;
    }
    boost::system::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(options.stream_buffer)), ignored);
    const auto session = std::make_shared<HttpSession>(shared, std::move(socket), tls ? &*tls : nullptr);
    if (static_cast<std::int64_t>(sessions.size()) < options.connections) {
      sessions.insert(session);
      open = static_cast<std::int64_t>(sessions.size());
      asio::co_spawn(shared.io, serve(session), asio::detached);
    } else {
      asio::co_spawn(shared.io, session->turn_away(), asio::detached);
    }
  }
}

asio::awaitable<void> HttpServer::Impl::serve(SessionPtr session) {
  co_await session->serve();
  sessions.erase(session);
  open = static_cast<std::int64_t>(sessions.size());
  end_if_drained();
}

void HttpServer::Impl::wait_for_signal() {
  signals.async_wait([this](const boost::system::error_code& ec, int) {
    if (ec) return;
    begin_drain();
    if (!sessions.empty()) wait_for_signal();
  });
}

void HttpServer::Impl::begin_drain() {
  if (shared.draining.exchange(true)) {
    cut();
    return;
  }
  boost::system::error_code ignored;
  acceptor.close(ignored);
  for (const SessionPtr& session : sessions) session->close_if_idle();
  drain_timer.expires_after(shared.options.drain_timeout);
  drain_timer.async_wait([this](const boost::system::error_code& ec) {
    if (!ec) cut();
  });
  end_if_drained();
}

void HttpServer::Impl::cut() {
  for (const SessionPtr& session : sessions) session->cut();
}

void HttpServer::Impl::end_if_drained() {
  if (!shared.draining || !sessions.empty()) return;
  signals.cancel();
  drain_timer.cancel();
}

HttpServer::HttpServer(HttpOptions options, HttpHandler& handler)
    : impl_(std::make_unique<Impl>(std::move(options), handler)) {}

HttpServer::~HttpServer() = default;

Result<void> HttpServer::listen() { return impl_->listen(); }

std::uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

void HttpServer::run() {
  impl_->wait_for_signal();
  asio::co_spawn(impl_->shared.io, impl_->accept(), asio::detached);
  impl_->shared.io.run();
  impl_->shared.workers.join();
}

void HttpServer::drain() {
  asio::post(impl_->shared.io, [this] { impl_->begin_drain(); });
}

bool HttpServer::draining() const { return impl_->shared.draining; }

std::int64_t HttpServer::open_connections() const { return impl_->open; }

}  // namespace krait::server
