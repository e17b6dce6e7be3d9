import { createInterface } from "node:readline";
import { Locator } from "../../src/agent/locator.js";
import { openRelayStun } from "../../src/cli/relaystun.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { describeNat, natKindOf } from "../../src/nat/natkind.js";
import { type Clock, systemClock } from "../../src/sys/clock.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";
import { readNetInfo } from "../../src/sys/netinfo.js";
import { systemRandom } from "../../src/sys/random.js";
import { lookUp } from "../../src/sys/resolve.js";

/**
 * For another network namespace: a relay's STUN on the two ports of argv, until stdin ends; or, with one relay's URLs
 * behind the ports, what a device finds out there, a line of JSON for each line of stdin.
 */
/** Ten times as slow as the machine's: a busy machine must not look like a relay that is far away, or answers no more. */
const clock: Clock = {
  now: () => systemClock.now() / 10,
  wall: () => systemClock.wall(),
  sleep: (duration, signal) => systemClock.sleep(10 * duration, signal),
};

const [stunPort = 0, otherStunPort = 0] = process.argv.slice(2, 4).map(Number);
const [url, ...urls] = process.argv.slice(4);

if (url === undefined) {
  await openRelayStun({ stunPort, otherStunPort });
  console.log("ready");
  process.stdin.resume();
} else {
  const socket = await openDatagramSocket(0); // a new one each time: conntrack remembers
  const relay = { id: "r", name: "r", url, urls: [url, ...urls], relayKey: keyOf(new Uint8Array(32)) };
  const parts = { clock, random: systemRandom, lookUp };
  const locator = new Locator({ ...parts, send: (to, datagram) => socket.send(to, datagram) }, ({ report }) => {
    const { is, means } = describeNat(report);
    console.log(JSON.stringify({ kind: natKindOf(report), is, means }));
  });
  socket.onReceive = (datagram, from) => locator.receive(datagram, from);
  locator.setRelays([{ ...relay, stunPort, otherStunPort }]);
  const addresses = readNetInfo().addresses.map(({ ip }) => parseIp(ip));
  console.log("ready");
  for await (const _ of createInterface(process.stdin)) await locator.begin({ port: socket.port, addresses });
  process.exit();
}
