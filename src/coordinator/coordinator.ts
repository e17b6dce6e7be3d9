import type { SqliteDatabase } from "kysely";
import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import { KEY_BYTES, type Key, keyBytes, keyOf, parseKey } from "../kit/key.js";
import type { Clock } from "../sys/clock.js";
import type { Files } from "../sys/files.js";
import type { Answer, SecureService, Served } from "../sys/httpserver.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { TlsIdentity } from "../sys/tls.js";
import type { CoordinatorStatus } from "../wire/adminapi.js";
import { CONTROL_PATH } from "../wire/control.js";
import { COORDINATOR_FILES, type CoordinatorConfig } from "../wire/coordinatorconfig.js";
import { PEERS_MAX } from "../wire/map.js";
import { ULA_RANDOM_BYTES, ulaPrefix } from "./addresses.js";
import { makeApi } from "./api.js";
import { LOBBY_MAX } from "./lobby.js";
import { Lockout } from "./lockout.js";
import type { NetworkFacts } from "./netmap.js";
import { DEVICE_MESSAGE_BYTES_MAX, Reception } from "./reception.js";
import { DEVICES_MAX, Registry } from "./registry.js";
import { Store } from "./store.js";
import { Switchboard } from "./switchboard.js";

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
  readonly serveUnix: (path: string, mode: number, answer: Answer) => Promise<Served>;
  readonly version: string;
  readonly log?: Log;
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
  const noiseKey = await keepNoiseKey(files, at("noiseKey"), random);
  const hosts = [...new Set(want.urls.map((url) => new URL(url).hostname.replace(/^\[|\]$/g, "")))];
  const tlsPaths = { key: at("tlsKey"), certificate: at("tlsCertificate") };
  const tls = await parts.keepTlsIdentity(files, tlsPaths, hosts, clock.wall());
  const store = await Store.open(parts.openDatabase(at("store")), ulaPrefix(random(ULA_RANDOM_BYTES)));

  const facts: NetworkFacts = { ranges: [want.ipv4, store.ula], mtu: want.mtu, whoami: want.whoami };
  const registry = await Registry.open({ store, range: want.ipv4, random, wall: () => clock.wall() });
  // A run's numbers are above every earlier run's, so that a device can tell an old map from a new one.
  const switchboard = new Switchboard({ devices: registry.devices, facts, clock, seqBase: store.epoch * 2 ** 32 });
  const reception = new Reception({ noiseKey, registry, switchboard, clock, random, version, ...log });
  const startedAtMs = clock.wall();
  const status = (): CoordinatorStatus => ({
    version,
    publicKey: keyOf(noiseKey.publicKey),
    tlsFingerprint: tls.fingerprint,
    urls: want.urls,
    devices: registry.devices.size,
    online: switchboard.online,
    startedAtMs,
  });
  const apiParts = { registry, switchboard, facts, status, now: () => clock.now(), ...log };
  const publicApi = makeApi(apiParts, { kind: "token", sha256: want.adminTokenSha256, lockout: new Lockout() });
  const socketApi = makeApi(apiParts, { kind: "socket" });
  const opened: Served[] = [];
  const close = async (): Promise<void> => {
    switchboard.close();
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
        connectionsMax: CONNECTIONS_MAX,
        accept: (socket, remote) => reception.accept(socket, remote),
      },
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

/** The coordinator's identity: whoever has the file is the coordinator. */
async function keepNoiseKey(files: Files, path: string, random: Random): Promise<KeyPair> {
  const text = await files.readText(path);
  if (text !== undefined) return keyPairOf(keyBytes(parseKey(text.trim())));
  const privateKey = random(KEY_BYTES);
  await files.write(path, `${keyOf(privateKey)}\n`, { mode: 0o600 });
  return keyPairOf(privateKey);
}
