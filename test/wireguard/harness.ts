import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { type Cidr, parseCidr, parseIp } from "../../src/kit/ip.js";
import { parseKey } from "../../src/kit/key.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import { echoReplyTo, echoRequest, isEchoReply } from "./icmp.js";

/**
 * A device around a real socket, as a process of its own for `ip netns exec`. Reads one line of JSON, then a line
 * "ping" for each echo request it is to send; prints a line for each event. Answers echo requests. Ends with stdin.
 */
export type HarnessWant = {
  readonly listen: string;
  readonly privateKey: string;
  readonly peer: { publicKey: string; presharedKey?: string; endpoint?: string; allowedIps: readonly string[] };
  readonly own: string;
  readonly other: string;
};

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const want = JSON.parse((await lines.next()).value ?? "") as HarnessWant;
const { address, port } = parseEndpoint(want.listen);
const socket = createSocket("udp4");
const device = new Device({ random: (length) => new Uint8Array(randomBytes(length)), wallMs: Date.now });
let timer: NodeJS.Timeout | undefined;

function carry(effects: readonly Effect[]): void {
  for (const effect of effects) {
    if (effect.kind === "send") socket.send(effect.datagram, effect.to.port, effect.to.address);
    else if (isEchoReply(effect.packet)) process.stdout.write("reply\n");
    else {
      const reply = echoReplyTo(effect.packet);
      if (reply !== undefined) carry(device.send(reply, performance.now()));
    }
  }
  clearTimeout(timer);
  const { deadline } = device;
  if (deadline !== undefined)
    timer = setTimeout(() => carry(device.tick(performance.now())), Math.max(0, deadline - performance.now()) + 1);
}

socket.on("message", (datagram, { address: from, port: fromPort }) => {
  const endpoint: Endpoint = { address: parseIp(from), port: fromPort };
  process.stdout.write(`datagram ${datagram[0]} from ${formatEndpoint(endpoint)}\n`);
  carry(device.receive(datagram, endpoint, performance.now()));
});

await new Promise<void>((resolve) => socket.bind(port, address, resolve));
const { publicKey, presharedKey, endpoint, allowedIps } = want.peer;
const peer = {
  publicKey: parseKey(publicKey),
  ...(presharedKey === undefined ? {} : { presharedKey: parseKey(presharedKey) }),
  ...(endpoint === undefined ? {} : { endpoint: parseEndpoint(endpoint) }),
  allowedIps: allowedIps.map((cidr): Cidr => parseCidr(cidr)),
  persistentKeepaliveSeconds: 0,
};
carry(device.configure({ privateKey: parseKey(want.privateKey), peers: [peer], mtu: 1420 }, performance.now()));
process.stdout.write("ready\n");
for (let sequence = 1; !(await lines.next()).done; sequence++)
  carry(device.send(echoRequest(want.own, want.other, sequence), performance.now()));
clearTimeout(timer);
socket.close();
