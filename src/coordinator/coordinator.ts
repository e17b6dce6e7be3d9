import { type Dialect, type SqliteDatabase, SqliteDialect } from "kysely";
import { ed25519PublicKeyOf, type KeyPair, keyPairOf } from "../kit/crypto.js";
import { KEY_BYTES, type Key, keyBytes, keyOf, parseKey } from "../kit/key.js";
import type { Clock } from "../sys/clock.js";
import type { Files } from "../sys/files.js";
import type { Https } from "../sys/https.js";
import type { Answer, SecureService, Served } from "../sys/httpserver.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { TlsIdentity } from "../sys/tls.js";
import type { CoordinatorStatus } from "../wire/adminapi.js";
import { CONTROL_PATH } from "../wire/control.js";
import { COORDINATOR_FILES, type CoordinatorConfig } from "../wire/coordinatorconfig.js";
import { PEERS_MAX } from "../wire/map.js";
import { otherStunPortBeside } from "../wire/relayconfig.js";
import { ULA_RANDOM_BYTES, ulaPrefix } from "./addresses.js";
import { mountApi } from "./api/mount.js";
import { apiRoutes } from "./api/routes.js";
import { LOBBY_MAX } from "./lobby.js";
import { Lockout } from "./lockout.js";
import type { NetworkFacts } from "./netmap.js";
import { DEVICE_MESSAGE_BYTES_MAX, Reception } from "./reception.js";
import { DEVICES_MAX, Registry } from "./registry.js";
import { type RelayBeside, Relays } from "./relays.js";
import { Store } from "./store/store.js";
import { Switchboard } from "./switchboard.js";
import { Visibility } from "./visibility.js";

/** Every device's connection, the strangers', and as many again for administration and probes. */
export const CONNECTIONS_MAX = DEVICES_MAX + 2 * LOBBY_MAX;

export type CoordinatorParts = {
  readonly files: Files;
  readonly clock: Clock;
  readonly random: Random;
  readonly openDatabase: (path: string) => SqliteDatabase;
  readonly keepTlsIdentity: (
    files: Files,
    paths: { readonly key: string; readonly certificate: string },
    hosts: readonly string[],
    now: number,
  ) => Promise<TlsIdentity>;
  readonly serveHttps: (service: SecureService) => Promise<Served>;
  /** Makes the relay beside us; left out, there is none. */
  readonly openRelay?: (want: RelayBesideWant) => Promise<RelayBeside>;
  /** Tells other machines' relays of revocations. */
  readonly https: Https;
  readonly serveUnix: (path: string, mode: number, answer: Answer) => Promise<Served>;
  readonly version: string;
  readonly log?: Log;
};

/** `signer` is the admission key's public half: whose devices the relay serves. */
export type RelayBesideWant = {
  readonly noiseKey: KeyPair;
  readonly signer: Uint8Array;
  readonly stunPort: number;
  readonly otherStunPort: number;
};

/** Folders: what lasts, and what lives as long as the process. */
export type CoordinatorPlaces = { readonly var: string; readonly run: string };

/** `listen.port` may be 0 here: any free one. */
export type CoordinatorWant = Omit<CoordinatorConfig, "listen"> & {
  readonly listen: { readonly address: string; readonly port: number };
};

export type Coordinator = {
  readonly port: number;
  readonly publicKey: Key;
  status(): CoordinatorStatus;
  /** Strangers' connections now. */
  strangers(): number;
  close(): Promise<void>;
};

const ADMIN_SOCKET_MODE = 0o660;

/** Opens the store, listens, and serves until closed. */
export async function startCoordinator(
  parts: CoordinatorParts,
  want: CoordinatorWant,
  places: CoordinatorPlaces,
): Promise<Coordinator> {
  const { files, clock, random, version } = parts;
  const log = parts.log === undefined ? {} : { log: parts.log };
  const at = (name: keyof typeof COORDINATOR_FILES): string =>
    `${name === "adminSocket" ? places.run : places.var}/${COORDINATOR_FILES[name]}`;
  const noiseKey = keyPairOf(await keepSecret(files, at("noiseKey"), random));
  const signingKey = await keepSecret(files, at("admissionKey"), random);
  const signer = ed25519PublicKeyOf(signingKey);
  const hosts = [...new Set(want.urls.map((url) => new URL(url).hostname.replace(/^\[|\]$/g, "")))];
  const tlsPaths = { key: at("tlsKey"), certificate: at("tlsCertificate") };
  const tls = await parts.keepTlsIdentity(files, tlsPaths, hosts, clock.wall());
  const dialect: Dialect = new SqliteDialect({ database: parts.openDatabase(at("store")) });
  const store = await Store.open(dialect, ulaPrefix(random(ULA_RANDOM_BYTES)));

  const own =
    want.relay.enabled && parts.openRelay !== undefined
      ? await parts.openRelay({
          noiseKey: keyPairOf(await keepSecret(files, at("relayKey"), random)),
          signer,
          stunPort: want.relay.stunPort,
          otherStunPort: want.relay.otherStunPort ?? otherStunPortBeside(want.relay.stunPort),
        })
      : undefined;
  const { https } = parts;
  const { urls, relays: configured } = want;
  const relays = await Relays.open({ own, urls, configured, store, signingKey, https, clock, random, ...log });

  const facts: NetworkFacts = {
    ranges: [want.ipv4, store.ula],
    mtu: want.mtu,
    whoami: want.whoami,
    get relays() {
      return relays.map;
    },
  };
  const registry = await Registry.open({ store, range: want.ipv4, random, wall: () => clock.wall() });
  relays.recall(registry.devices.values());
  const { devices } = registry;
  const visibility = new Visibility({ devices, wall: () => clock.wall() });
  // A run's numbers are above every earlier run's, so that a device can tell an old map from a new one.
  const switchboard = new Switchboard({ devices, visibility, facts, clock, seqBase: store.epoch * 2 ** 32 });
  const reception = new Reception({ noiseKey, signingKey, registry, switchboard, clock, random, version, ...log });
  const startedAtMs = clock.wall();
  const status = (): CoordinatorStatus => ({
    version,
    publicKey: keyOf(noiseKey.publicKey),
    tlsFingerprint: tls.fingerprint,
    urls: want.urls,
    devices: registry.devices.size,
    online: switchboard.online,
    startedAtMs,
    admissionKey: keyOf(signer),
    relays: relays.map.length,
    forwardedCalls: switchboard.calls.forwarded,
    forwardedCallBytes: switchboard.calls.bytes,
  });
  const routes = apiRoutes({ registry, switchboard, relays, facts, status, ...log });
  const mounted = { routes, now: () => clock.now(), ...log };
  const publicApi = mountApi(mounted, { kind: "token", sha256: want.adminTokenSha256, lockout: new Lockout() });
  const socketApi = mountApi(mounted, { kind: "socket" });
  const opened: Served[] = [];
  const close = async (): Promise<void> => {
    switchboard.close();
    await relays.close();
    await Promise.all(opened.map((served) => served.close()));
    await registry.settled();
    await store.close();
  };
  try {
    opened.push(
      await parts.serveUnix(at("adminSocket"), ADMIN_SOCKET_MODE, (request, caller) =>
        socketApi.fetch(request, caller),
      ),
    );
    const secure = await parts.serveHttps({
      ...want.listen,
      key: tls.key,
      certificate: tls.certificate,
      answer: (request, caller) => publicApi.fetch(request, caller),
      sockets: {
        path: CONTROL_PATH,
        messageBytesMax: DEVICE_MESSAGE_BYTES_MAX,
        connectionsMax: CONNECTIONS_MAX + (own?.connectionsMax ?? 0),
        accept: (socket, remote) => reception.accept(socket, remote),
      },
      ...(own === undefined ? {} : { streams: own.streams }),
    });
    opened.push(secure);
    parts.log?.info("coordinator listens", { port: secure.port, devices: registry.devices.size, peersMax: PEERS_MAX });
    const publicKey = keyOf(noiseKey.publicKey);
    return { port: secure.port, publicKey, status, strangers: () => reception.lobby.size, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** An identity of the coordinator's: whoever has the file has it. */
async function keepSecret(files: Files, path: string, random: Random): Promise<Uint8Array> {
  const text = await files.readText(path);
  if (text !== undefined) return keyBytes(parseKey(text.trim()));
  const secret = random(KEY_BYTES);
  await files.write(path, `${keyOf(secret)}\n`, { mode: 0o600 });
  return secret;
}
