/* SPDX-License-Identifier: Apache-2.0 */
/* schema — see schema.h. Messages (system information, specs, failures) are stored in their wire form: a column is made of a field only
 * where a query needs it. Times are microseconds since 1970; 0 stands for "never". */
#include "control/schema.h"

static const char sql_begin[] =
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "CREATE TABLE servers ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, reason TEXT NOT NULL, profile INTEGER NOT NULL,"
    " preferred TEXT NOT NULL, local INTEGER NOT NULL, system BLOB NOT NULL, seen TEXT NOT NULL, mode TEXT NOT NULL,"
    " created_us INTEGER NOT NULL, enrolled_us INTEGER NOT NULL, heartbeat_us INTEGER NOT NULL, skew_us INTEGER NOT NULL,"
    " generation INTEGER NOT NULL, last_seq INTEGER NOT NULL) STRICT;"
    "CREATE TABLE tokens ("
    " id TEXT PRIMARY KEY, server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE, hash BLOB NOT NULL,"
    " created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, used_us INTEGER NOT NULL, void INTEGER NOT NULL,"
    " key_sha256 BLOB NOT NULL, certificate TEXT NOT NULL) STRICT;"
    "CREATE INDEX tokens_server ON tokens (server_id);"
    "CREATE TABLE certificates ("
    " serial TEXT PRIMARY KEY, server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE, generation INTEGER NOT NULL,"
    " issued_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, revoked_us INTEGER NOT NULL) STRICT;"
    "CREATE INDEX certificates_server ON certificates (server_id);"
    "CREATE TABLE commands ("
    " server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE, seq INTEGER NOT NULL, id TEXT NOT NULL UNIQUE,"
    " kind INTEGER NOT NULL, subject TEXT NOT NULL, payload BLOB NOT NULL, credentials INTEGER NOT NULL, state INTEGER NOT NULL,"
    " result BLOB NOT NULL, created_us INTEGER NOT NULL, received_us INTEGER NOT NULL, finished_us INTEGER NOT NULL,"
    " PRIMARY KEY (server_id, seq)) STRICT;"
    "CREATE INDEX commands_state ON commands (state);"
    "CREATE TABLE services ("
    " project TEXT NOT NULL, name TEXT NOT NULL, server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,"
    " newest TEXT NOT NULL, active TEXT NOT NULL, updated_us INTEGER NOT NULL, PRIMARY KEY (project, name)) STRICT;"
    "CREATE INDEX services_server ON services (server_id);"
    "CREATE TABLE deployments ("
    " id TEXT PRIMARY KEY, request_id TEXT UNIQUE, project TEXT NOT NULL, service TEXT NOT NULL, server_id TEXT NOT NULL,"
    " server_name TEXT NOT NULL, spec BLOB NOT NULL, state INTEGER NOT NULL, failure BLOB NOT NULL, container_id TEXT NOT NULL,"
    " image_digest TEXT NOT NULL, triggered_by TEXT NOT NULL, created_us INTEGER NOT NULL, finished_us INTEGER NOT NULL) STRICT;"
    "CREATE INDEX deployments_service ON deployments (project, service, created_us);"
    "CREATE INDEX deployments_state ON deployments (server_id, state);"
    "CREATE TABLE deployment_events ("
    " deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE, number INTEGER NOT NULL, state INTEGER NOT NULL,"
    " event BLOB NOT NULL, PRIMARY KEY (deployment_id, number)) STRICT;";

/* The audit log: see audit.h. Rows are only ever added. */
static const char sql_audit[] =
    "CREATE TABLE audit ("
    " number INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, actor TEXT NOT NULL, serial TEXT NOT NULL, action TEXT NOT NULL,"
    " object TEXT NOT NULL, outcome TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, request TEXT NOT NULL,"
    " count INTEGER NOT NULL, begun INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;"
    "CREATE INDEX audit_time ON audit (time_us);"
    "CREATE INDEX audit_object ON audit (object, number);";

/* Renewals: the chain that was issued, and its key (SPKI in DER, empty for those of before: it is in the chain); `oldest` is the lowest
 * generation of a server that is let in, above `generation` when all were revoked. Certificates so far were all issued for a token, in its
 * transaction. */
static const char sql_credentials[] =
    "ALTER TABLE certificates ADD COLUMN chain TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE certificates ADD COLUMN spki BLOB NOT NULL DEFAULT x'';"
    "ALTER TABLE servers ADD COLUMN oldest INTEGER NOT NULL DEFAULT 0;"
    "UPDATE servers SET oldest = generation;"
    "UPDATE certificates SET chain = COALESCE((SELECT MAX(t.certificate) FROM tokens t WHERE t.server_id = certificates.server_id"
    " AND t.used_us = certificates.issued_us), '');";

/* Rollouts of releases: see rollouts.h. Their servers may be gone, so the names are kept. */
static const char sql_rollouts[] =
    "CREATE TABLE rollouts ("
    " id TEXT PRIMARY KEY, version TEXT NOT NULL, state INTEGER NOT NULL, cancelled INTEGER NOT NULL, max_parallel INTEGER NOT NULL,"
    " halt_on_failure INTEGER NOT NULL, offline_wait_s INTEGER NOT NULL, triggered_by TEXT NOT NULL, created_us INTEGER NOT NULL,"
    " finished_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE rollout_steps ("
    " rollout_id TEXT NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE, server_id TEXT NOT NULL, server_name TEXT NOT NULL,"
    " place INTEGER NOT NULL, state INTEGER NOT NULL, phase TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,"
    " from_version TEXT NOT NULL, since_us INTEGER NOT NULL, changed_us INTEGER NOT NULL, PRIMARY KEY (rollout_id, server_id)) STRICT;"
    "CREATE INDEX rollout_steps_server ON rollout_steps (server_id);";

/* The key of the MAC that a join token's secret makes (ident/proof.h), sealed; empty for tokens of before, which enroll in direct mode only. */
static const char sql_token_macs[] = "ALTER TABLE tokens ADD COLUMN mac BLOB NOT NULL DEFAULT x''";

/* The pins of the roots that the agent of a server holds, in hex with blanks between them, as it said at its last connect; empty: it did not. */
static const char sql_server_roots[] = "ALTER TABLE servers ADD COLUMN roots TEXT NOT NULL DEFAULT ''";
/* Who may use the dashboard and the API from outside: see people.h and passes.h. Of secrets there are only hashes. */
static const char sql_people[] =
    "CREATE TABLE people ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL, password TEXT NOT NULL, created_us INTEGER NOT NULL,"
    " changed_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE setup_links (id TEXT PRIMARY KEY, hash BLOB NOT NULL, created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE sessions ("
    " id TEXT PRIMARY KEY, person_id TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE, hash BLOB NOT NULL UNIQUE,"
    " created_us INTEGER NOT NULL, used_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, address TEXT NOT NULL, user_agent TEXT NOT NULL)"
    " STRICT;"
    "CREATE INDEX sessions_person ON sessions (person_id);"
    "CREATE TABLE api_tokens ("
    " id TEXT PRIMARY KEY, hash BLOB NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL, created_by TEXT NOT NULL, created_us INTEGER NOT NULL,"
    " expires_us INTEGER NOT NULL, used_us INTEGER NOT NULL, used_from TEXT NOT NULL, revoked_us INTEGER NOT NULL) STRICT;";

/* Rollbacks and cancels: which deployment one repeats, when it became active (0: never; what is older than this column is in the order in which
 * it was made), whether its user has given up a command, how many containers a service has, and which hostnames a deployment asks for. */
static const char sql_deployments[] =
    "ALTER TABLE deployments ADD COLUMN source TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE deployments ADD COLUMN activated_us INTEGER NOT NULL DEFAULT 0;"
    "UPDATE deployments SET activated_us = created_us WHERE container_id <> '' OR state IN (4, 6);"
    "ALTER TABLE commands ADD COLUMN cancel INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE services ADD COLUMN replicas INTEGER NOT NULL DEFAULT 1;"
    "CREATE TABLE hostnames ("
    " deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE, hostname TEXT NOT NULL, PRIMARY KEY (deployment_id, hostname))"
    " STRICT;"
    "CREATE INDEX hostnames_name ON hostnames (hostname);";

/* What services get beside their file, and logins for registries. Names are in the clear, the rest is sealed (sealed.h); an id is the hash of what
 * the row is called, so that its envelope opens nowhere else. */
static const char sql_environment[] =
    "CREATE TABLE variables ("
    " id TEXT PRIMARY KEY, project TEXT NOT NULL, service TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL,"
    " changed_us INTEGER NOT NULL, changed_by TEXT NOT NULL, UNIQUE (project, service, name)) STRICT;"
    "CREATE TABLE registries ("
    " id TEXT PRIMARY KEY, server TEXT NOT NULL UNIQUE, login BLOB NOT NULL, changed_us INTEGER NOT NULL, changed_by TEXT NOT NULL) STRICT;";

/* Short-lived tokens: which assertions were exchanged, by a hash of client and jti, and which tokens may open nothing any more; see oauth.h. */
static const char sql_oauth[] =
    "CREATE TABLE used_assertions (id TEXT PRIMARY KEY, client TEXT NOT NULL, expires_us INTEGER NOT NULL) STRICT;"
    "CREATE INDEX used_assertions_expires ON used_assertions (expires_us);"
    "CREATE INDEX used_assertions_client ON used_assertions (client);"
    "CREATE TABLE revoked_tokens (id TEXT PRIMARY KEY, expires_us INTEGER NOT NULL) STRICT;";

/* Sandboxes, see sandboxes.h: what each was asked to be (sealed), what its agent said of it last; and who is registered, of whose rows the
 * certificate
 * and the container are both one of a kind. */
static const char sql_sandboxes[] =
    "CREATE TABLE sandboxes ("
    " id TEXT PRIMARY KEY, server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE, project TEXT NOT NULL, name TEXT NOT NULL,"
    " spec BLOB NOT NULL, state BLOB NOT NULL, container_id TEXT NOT NULL, created_us INTEGER NOT NULL, UNIQUE (server_id, project, name)) STRICT;"
    "CREATE TABLE sandbox_agents ("
    " thumbprint TEXT NOT NULL UNIQUE, container_id TEXT NOT NULL UNIQUE,"
    " sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE, project TEXT NOT NULL, name TEXT NOT NULL,"
    " registered_us INTEGER NOT NULL, last_seen_us INTEGER NOT NULL, PRIMARY KEY (thumbprint, container_id)) STRICT;"
    "CREATE INDEX sandbox_agents_sandbox ON sandbox_agents (sandbox_id);";

/* A certificate that was given to a sandbox counts beside the one before until it was seen in a handshake: a renewal may be cut off at any moment. */
static const char sql_sandbox_renewals[] =
    "ALTER TABLE sandbox_agents ADD COLUMN previous TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE sandbox_agents ADD COLUMN previous_until_us INTEGER NOT NULL DEFAULT 0;";

const struct store_migration schema_migrations[] = {
    {"begin", sql_begin},
    {"audit", sql_audit},
    {"credentials", sql_credentials},
    {"rollouts", sql_rollouts},
    {"token_macs", sql_token_macs},
    {"server_roots", sql_server_roots},
    {"people", sql_people},
    {"deployments", sql_deployments},
    {"environment", sql_environment},
    {"oauth", sql_oauth},
    {"sandboxes", sql_sandboxes},
    {"sandbox_renewals", sql_sandbox_renewals},
};
const size_t schema_n_migrations = sizeof(schema_migrations) / sizeof(schema_migrations[0]);
