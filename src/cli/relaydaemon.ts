import { join } from "node:path";
import { keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { tryIp } from "../kit/ip.js";
import { KEY_BYTES, type Key, keyBytes, keyOf, parseKey } from "../kit/key.js";
import { RELAY_LIMITS } from "../relay/limits.js";
import { RelayService } from "../relay/server.js";
import { systemClock } from "../sys/clock.js";
import { openDatagramSocket } from "../sys/dgram.js";
import { type Files, localFiles } from "../sys/files.js";
import { chunkFreer } from "../sys/freeing.js";
import type { Log } from "../sys/log.js";
import { systemRandom } from "../sys/random.js";
import { servePlain, serveStreams } from "../sys/streamserver.js";
import { keepTlsIdentity } from "../sys/tls.js";
import { BINDING_HEADER, RELAY_PATH, RELAY_PROTOCOL } from "../wire/relay.js";
import { RELAY_FILES, type RelayConfig } from "../wire/relayconfig.js";
import { openRelayStun } from "./relaystun.js";

/** The relay as a process: real files and sockets behind it. */

export type RelayPlaces = { readonly etc: string; readonly var: string };

export function relayPlaces(env: Readonly<Record<string, string | undefined>>): RelayPlaces {
  return { etc: env.EXITNODE_ETC ?? "/etc/exitnode", var: env.EXITNODE_VAR ?? "/var/lib/exitnode-relay" };
}

export type Relay = {
  readonly port: number;
  /** 0: no STUN there. */
  readonly stunPort: number;
  readonly otherStunPort: number;
  /** What devices are told, so that they know it is this relay. */
  readonly publicKey: Key;
  readonly metricsPort: number | undefined;
  readonly service: RelayService;
  /** Tells the devices to come back, then stops. */
  close(): Promise<void>;
};

export async function openRelay(places: RelayPlaces, config: RelayConfig, log?: Log): Promise<Relay> {
  const noiseKey = keyPairOf(await keepKey(localFiles, join(places.var, RELAY_FILES.noiseKey)));
  const tls = await tlsOf(places, config);
  const stun = await openRelayStun(config, log);
  const trial = await openDatagramSocket(0);
  const service = new RelayService({
    noiseKey,
    signers: config.coordinatorKeys.map(keyBytes),
    clock: systemClock,
    random: systemRandom,
    freeChunk: chunkFreer(),
    sendDatagram(address, port, datagram) {
      const to = tryIp(address);
      if (to !== undefined) trial.send({ address: to, port }, datagram);
    },
    ...(config.bytesPerSecondMax === undefined ? {} : { limits: { bytesPerSecondMax: config.bytesPerSecondMax } }),
    ...(log === undefined ? {} : { log }),
  });
  const closers: (() => Promise<void> | void)[] = [() => service.close(), () => stun.close(), () => trial.close()];
  const close = async (): Promise<void> => {
    for (const one of closers) await one();
  };
  try {
    const served = await serveStreams({
      ...config.listen,
      ...tls,
      connectionsMax: RELAY_LIMITS.membersMax + 2 * RELAY_LIMITS.lobbyMax,
      answer: (request) => service.answer(request) ?? { status: 404 },
      streams: {
        path: RELAY_PATH,
        protocol: RELAY_PROTOCOL,
        bindingHeader: BINDING_HEADER,
        accept: (stream) => service.accept(stream),
      },
    });
    closers.push(() => served.close());
    const { metrics } = config;
    const plain =
      metrics === undefined
        ? undefined
        : await servePlain(metrics.address, metrics.port, ({ path }) =>
            path === "/metrics"
              ? { status: 200, type: "text/plain; version=0.0.4", body: service.metrics(stun.counters) }
              : { status: 404 },
          );
    if (plain !== undefined) closers.push(() => plain.close());
    const publicKey = keyOf(noiseKey.publicKey);
    const { stunPort, otherStunPort } = stun;
    log?.info("relay listens", { port: served.port, stunPort, otherStunPort, publicKey });
    return { port: served.port, stunPort, otherStunPort, publicKey, metricsPort: plain?.port, service, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function tlsOf(places: RelayPlaces, config: RelayConfig): Promise<{ key: string; certificate: string }> {
  if (config.tls === undefined) {
    const paths = {
      key: join(places.var, RELAY_FILES.tlsKey),
      certificate: join(places.var, RELAY_FILES.tlsCertificate),
    };
    return keepTlsIdentity(localFiles, paths, config.hosts, systemClock.wall());
  }
  const [key, certificate] = [
    await localFiles.readText(config.tls.key),
    await localFiles.readText(config.tls.certificate),
  ];
  if (key === undefined || certificate === undefined)
    throw new Failure("tls-missing", `${key === undefined ? config.tls.key : config.tls.certificate} is not there`, {
      advice: "put the certificate there, or leave `tls` out of relay.json: one is made",
    });
  return { key, certificate };
}

/** The relay's identity: whoever has the file is this relay. */
async function keepKey(files: Files, path: string): Promise<Uint8Array> {
  const text = await files.readText(path);
  if (text !== undefined) return keyBytes(parseKey(text.trim()));
  const privateKey = systemRandom(KEY_BYTES);
  await files.write(path, `${keyOf(privateKey)}\n`, { mode: 0o600 });
  return privateKey;
}
