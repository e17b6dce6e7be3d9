import { createInterface } from "node:readline";
import { ed25519PublicKeyOf, keyPairOf } from "../../src/kit/crypto.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { decodeStunRequest, encodeStunResponse } from "../../src/nat/stun.js";
import { RelayService } from "../../src/relay/server.js";
import { serveStun } from "../../src/relay/stunserver.js";
import { systemClock } from "../../src/sys/clock.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";
import type { Files } from "../../src/sys/files.js";
import { serveHttps } from "../../src/sys/httpserver.js";
import { systemRandom } from "../../src/sys/random.js";
import { serveStreams } from "../../src/sys/streamserver.js";
import { keepTlsIdentity } from "../../src/sys/tls.js";
import { CONTROL_PATH, MESSAGE_BYTES_MAX } from "../../src/wire/control.js";
import type { MapRelay } from "../../src/wire/map.js";
import { BINDING_HEADER, RELAY_PATH, RELAY_PROTOCOL } from "../../src/wire/relay.js";
import { ModelNetwork } from "./modelnetwork.js";

/**
 * The middle of the Internet, in a place of its own: node pathsmiddle.js ADDRESS…; a relay at each, all else at the
 * first. A line on stdin names a device that is to have another WireGuard key.
 */

const noFiles: Files = {
  read: async () => undefined,
  readText: async () => undefined,
  write: async () => undefined,
  remove: async () => undefined,
  list: async () => [],
};
const addresses = process.argv.slice(2);
const names = { key: "key", certificate: "certificate" };
const tls = await keepTlsIdentity(noFiles, names, ["localhost"], Date.now());
const signer = systemRandom(32);

async function openRelay(address: string, number: number): Promise<MapRelay> {
  const noiseKey = keyPairOf(systemRandom(32));
  const trial = await openDatagramSocket(0, parseIp(address));
  const service = new RelayService({
    noiseKey,
    signers: [ed25519PublicKeyOf(signer)],
    clock: systemClock,
    random: systemRandom,
    sendDatagram: (to, port, datagram) => trial.send({ address: parseIp(to.replace(/^::ffff:/, "")), port }, datagram),
  });
  await serveStreams({
    ...{ address, port: 443, connectionsMax: 100, ...tls },
    answer: (request) => service.answer(request) ?? { status: 404 },
    streams: {
      ...{ path: RELAY_PATH, protocol: RELAY_PROTOCOL, bindingHeader: BINDING_HEADER },
      accept: (stream) => service.accept(stream),
    },
  });
  serveStun(
    [await openDatagramSocket(3_478, parseIp(address))],
    (datagram, from) => {
      const request = decodeStunRequest(datagram);
      return request === undefined ? undefined : encodeStunResponse(request, from);
    },
    systemClock,
  );
  const url = `https://${address}`;
  return { id: `r${number}`, name: `relay-${number}`, url, relayKey: keyOf(noiseKey.publicKey), stunPort: 3_478 };
}

const relays: MapRelay[] = [];
for (const [i, address] of addresses.entries()) relays.push(await openRelay(address, i + 1));
const network = new ModelNetwork(relays, signer);
await serveHttps({
  ...{ address: addresses[0] ?? "", port: 8_443, ...tls },
  answer: () => new Response("no", { status: 404 }),
  sockets: {
    ...{ path: CONTROL_PATH, messageBytesMax: MESSAGE_BYTES_MAX, connectionsMax: 100 },
    accept: (socket) => network.serve(socket),
  },
});
createInterface({ input: process.stdin }).on("line", (name) => network.rotate(name));
process.stdout.write(`${network.publicKey}\n`);
