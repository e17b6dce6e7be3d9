import { ed25519PublicKeyOf, type KeyPair, keyPairOf } from "../kit/crypto.js";
import { type Key, keyOf } from "../kit/key.js";
import type { Https } from "../sys/https.js";
import type { Answer, SecureService, Served } from "../sys/httpserver.js";
import type { Log } from "../sys/log.js";
import type { WebPost } from "../sys/webpost.js";
import type { CoordinatorStatus } from "../wire/adminapi.js";
import { CONTROL_PATH } from "../wire/control.js";
import { COORDINATOR_FILES, type CoordinatorConfig } from "../wire/coordinatorconfig.js";
import { PEERS_MAX } from "../wire/map.js";
import { otherStunPortBeside } from "../wire/relayconfig.js";
import { sealSeed } from "../wire/seal.js";
import { openAdministration } from "./administration.js";
import { ChangeFeed } from "./changefeed.js";
import { isMember } from "./device.js";
import { DeviceLocks } from "./devicelock.js";
import { expel } from "./expulsion.js";
import { openIdentity } from "./identity/identity.js";
import { LOBBY_MAX } from "./lobby.js";
import { Lockout } from "./lockout.js";
import { Membership } from "./membership.js";
import { Names } from "./names.js";
import type { NetworkFacts } from "./netmap.js";
import { OtherCoordinators } from "./othercoordinators.js";
import { Policies } from "./policies.js";
import { DEVICE_MESSAGE_BYTES_MAX, Reception } from "./reception.js";
import { DEVICES_MAX, Registry } from "./registry.js";
import { type RelayBeside, Relays } from "./relays.js";
import { senderOf } from "./sender.js";
import { openStorage, type StorageParts } from "./storage.js";
import { Switchboard } from "./switchboard.js";
import { Tokens } from "./tokens.js";
import { Upkeep } from "./upkeep.js";
import { isPage, mountSite } from "./web/site.js";

/** Every device's connection, the lobby's two stages, and as many as one of them for administration and probes. */
export const CONNECTIONS_MAX = DEVICES_MAX + 3 * LOBBY_MAX;

export type CoordinatorParts = StorageParts & {
  readonly serveHttps: (service: SecureService) => Promise<Served>;
  /** Makes the relay beside us; left out, there is none. */
  readonly openRelay?: (want: RelayBesideWant) => Promise<RelayBeside>;
  /** Tells other machines' relays of revocations. */
  readonly https: Https;
  /** Reaches the identity provider; left out, as Node does. */
  readonly fetch?: typeof fetch;
  /** Sends webhooks; left out, none arrives. */
  readonly post?: WebPost;
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
export type CoordinatorWant = Omit<CoordinatorConfig, "listen" | "store"> & {
  readonly listen: { readonly address: string; readonly port: number };
  readonly store?: CoordinatorConfig["store"];
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
  const { clock, random, version } = parts;
  const log = parts.log === undefined ? {} : { log: parts.log };
  const hosts = [...new Set(want.urls.map((url) => new URL(url).hostname.replace(/^\[|\]$/g, "")))];
  const { store, secrets, postgres } = await openStorage(parts, want.store ?? { kind: "sqlite" }, places.var, hosts);
  const { tls, admission: signingKey } = secrets;
  const noiseKey = keyPairOf(secrets.noise);
  const signer = ed25519PublicKeyOf(signingKey);
  const seed = sealSeed(noiseKey.privateKey);

  const own =
    want.relay.enabled && parts.openRelay !== undefined
      ? await parts.openRelay({
          noiseKey: keyPairOf(secrets.relay),
          signer,
          stunPort: want.relay.stunPort,
          otherStunPort: want.relay.otherStunPort ?? otherStunPortBeside(want.relay.stunPort),
        })
      : undefined;
  const { https } = parts;
  const { urls, relays: configured } = want;
  const feed = await ChangeFeed.open(store);
  const relays = await Relays.open({ own, urls, configured, store, signingKey, https, clock, random, ...log });
  const names = await Names.open({ store, wall: () => clock.wall() });

  const facts: NetworkFacts = {
    ranges: [want.ipv4, store.ula],
    mtu: want.mtu,
    wall: () => clock.wall(),
    whoami: want.whoami,
    coordinatorUrls: want.urls,
    get relays() {
      return relays.map;
    },
    get names() {
      return names.map;
    },
    get lock() {
      return locks.map;
    },
    loginOf: (userId) => people.users.get(userId)?.login,
  };
  const registry = await Registry.open({
    ...{ store, feed, range: want.ipv4, random, clock },
    isReserved: (name) => policies.isReserved(name),
  });
  relays.recall(registry.devices.values());
  const locks = await DeviceLocks.open({
    store,
    registry,
    // With a lock, every peer's text says how it stands to it.
    changed: (id) => (id === undefined ? switchboard.relaysChanged() : switchboard.changed(id)),
  });
  const { devices } = registry;
  const policies = await Policies.open({
    store,
    feed,
    devices,
    ranges: facts.ranges,
    wall: () => clock.wall(),
    ...log,
  });
  const { visibility } = policies;
  // A run's numbers are above every earlier run's, so that a device can tell an old map from a new one.
  const seqBase = store.epoch * 2 ** 32;
  const others =
    postgres === undefined
      ? undefined
      : new OtherCoordinators(
          { store, feed, postgres, clock, random, catchUp: () => registry.catchUp(), ...log },
          {
            onPresence: (ids) => {
              for (const id of ids) switchboard.changedElsewhere(id);
            },
            onCall: (...call) => switchboard.callFromElsewhere(...call),
            connected: () => switchboard.connected(),
          },
        );
  const switchboard = new Switchboard({
    devices,
    visibility,
    facts,
    clock,
    seqBase,
    sealSeed: seed,
    ...(others === undefined ? {} : { others }),
  });
  feed.on("setting", async (view) => {
    if (await relays.reread(view)) switchboard.relaysChanged();
    if (await names.reread(view)) switchboard.changed();
    if (await locks.reread(view)) switchboard.relaysChanged();
  });
  policies.changed = () => switchboard.changed();
  registry.watch((changes) => {
    for (const { before, after } of changes)
      if (before !== undefined && isMember(before) && (after === undefined || !isMember(after))) {
        own?.revoke(before.machineKey);
        void switchboard.expelHere(before.id).then((told) => others?.tell(before.id, told));
      } else switchboard.changed((after ?? before)?.id);
  });
  const lockout = new Lockout();
  const identity = await openIdentity(
    {
      ...{ files: parts.files, fetch: parts.fetch ?? fetch, secret: secrets.noise, lockout },
      isShared: postgres !== undefined,
      ...{ store, registry, feed, random, wall: () => clock.wall(), ...log },
      changed: ({ id }) => switchboard.changed(id),
      peopleChanged: () => void policies.followPeople(),
    },
    urls,
    want.identity,
  );
  const { signIns, people, invites, sessions } = identity;
  const reception = new Reception({
    ...{ noiseKey, signingKey, registry, signIns, switchboard, clock, random, version, ...log },
    sealKey: ed25519PublicKeyOf(seed),
  });
  const startedAtMs = clock.wall();
  const status = (): CoordinatorStatus => ({
    version,
    publicKey: keyOf(noiseKey.publicKey),
    tlsFingerprint: tls.fingerprint,
    urls: want.urls,
    devices: registry.devices.size,
    online: switchboard.online + (others?.online ?? 0),
    startedAtMs,
    admissionKey: keyOf(signer),
    relays: relays.map.length,
    forwardedCalls: switchboard.calls.forwarded,
    forwardedCallBytes: switchboard.calls.bytes,
  });
  const membership = new Membership({
    registry,
    store,
    random,
    changed: ({ after }) => switchboard.changed(after?.id),
  });
  const tokens = new Tokens({ store, random, people, wall: () => clock.wall() });
  const upkeep = new Upkeep({ registry, switchboard, relays, clock, ...log });
  const administration = openAdministration({
    api: {
      registry,
      policies,
      switchboard,
      relays,
      names,
      locks,
      facts,
      status,
      store,
      people,
      invites,
      membership,
      tokens,
      ...log,
    },
    ...{ clock, random, version, want },
    ...(parts.post === undefined ? {} : { post: parts.post }),
    gate: { kind: "token", sha256: want.adminTokenSha256, lockout, sessions, tokens },
  });
  const site = mountSite({
    ...{ identity, devices, now: () => clock.now(), wall: () => clock.wall(), ...log },
    isOnline: (id) => switchboard.isOnline(id),
    expel: (id, by) => expel({ registry, switchboard, relays, ...log }, id, by),
  });
  const opened: Served[] = [];
  const close = async (): Promise<void> => {
    switchboard.close();
    upkeep.close();
    signIns.close();
    await relays.close();
    await Promise.all(opened.map((served) => served.close()));
    await administration.close();
    await others?.close();
    await registry.settled();
    await store.close();
  };
  try {
    await others?.open();
    if (own !== undefined && others !== undefined && others.count > 0)
      parts.log?.warn(
        "devices reach each other's relays only by a name of its own: set relay.enabled: false here, and exitnode relay up",
      );
    opened.push(
      await parts.serveUnix(
        `${places.run}/${COORDINATOR_FILES.adminSocket}`,
        ADMIN_SOCKET_MODE,
        administration.overSocket,
      ),
    );
    const secure = await parts.serveHttps({
      ...want.listen,
      key: tls.key,
      certificate: tls.certificate,
      answer: (request, caller) =>
        isPage(new URL(request.url).pathname)
          ? site.fetch(request, caller)
          : administration.overNetwork(request, caller),
      remoteOf: (remote, forwarded) => senderOf(remote, forwarded, want.trustedProxies ?? []),
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
