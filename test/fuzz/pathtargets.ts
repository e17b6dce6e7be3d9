import assert from "node:assert/strict";
import { concat, toHex, utf8 } from "../../src/kit/bytes.js";
import { ed25519PublicKeyOf, keyPairOf } from "../../src/kit/crypto.js";
import { datagramKind } from "../../src/kit/datagramkind.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { controlOf, locationOf, readSoap } from "../../src/nat/portmap/igd.js";
import { decodeNatPmp } from "../../src/nat/portmap/natpmp.js";
import { decodePcp, encodePcpMap } from "../../src/nat/portmap/pcp.js";
import { decodeFrame, encodeFrame as encodeStun } from "../../src/nat/stunmessage.js";
import { FrameReader, type FrameSink } from "../../src/relay/framereader.js";
import { TURN_BUFFERS_KEPT, TurnMemory } from "../../src/relay/turnmemory.js";
import { issueAdmission, issueRevocation, verifyAdmission, verifyRevocation } from "../../src/wire/admission.js";
import { decodeProbe, encodeProbe, type Probe, probeKey } from "../../src/wire/probe.js";
import {
  decodeDialBack,
  decodeRefused,
  decodeRestarting,
  decodeWelcome,
  encodeDialBack,
  encodeFrame,
  encodeRefused,
  encodeRestarting,
  encodeWelcome,
  FRAME,
} from "../../src/wire/relay.js";
import { bytesOf, chanceOf } from "../wireguard/world.js";
import { bytes, type Target, text } from "./harness.js";

/** What reaches a device on the way to a path: STUN, probes, the relay's frames, a router's answers. */

const random = bytesOf(chanceOf(23));
const [one, other] = [keyPairOf(random(32)), keyPairOf(random(32))];
const key = probeKey(one.privateKey, other.publicKey) ?? assert.fail("a shared key");
const transaction = random(12);
const source = parseEndpoint("203.0.113.7:51820");

const probes: Probe[] = [
  { kind: "ping", transaction, padding: 20 },
  { kind: "pong", transaction, source },
  { kind: "call-me-maybe", nat: "easy", endpoints: [source, parseEndpoint("[2001:db8::7]:443")] },
];
const sealedProbes = probes.map((probe) => encodeProbe(probe, one.publicKey, key, random(24)));

const stun = [
  { type: 0x0101, attributes: [{ type: 0x0020, value: Uint8Array.of(0, 1, 0x11, 2, 3, 4, 5, 6) }] },
  { type: 0x0111, attributes: [{ type: 0x0009, value: Uint8Array.of(0, 0, 4, 20, 0x78) }] },
].map(({ type, attributes }) => encodeStun({ type, transaction, attributes }));

const pcpAnswer = encodePcpMap({
  nonce: transaction,
  client: parseIp("192.168.1.2"),
  internalPort: 51_820,
  externalPort: 51_820,
  lifetimeSeconds: 7_200,
}).with(1, 129);
const NAT_PMP = [
  Uint8Array.of(0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7),
  Uint8Array.of(0, 129, 0, 0, 0, 0, 0, 9, 0xca, 0x6c, 0xca, 0x6c, 0, 0, 0x1c, 0x20),
];
const SOAP = [
  "<s:Body><u:R><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></u:R></s:Body>",
  "<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>",
];

const GATEWAY = parseIp("192.168.1.1");
const LOCATION = "http://192.168.1.1:5000/rootDesc.xml";
const SSDP = `HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: ${LOCATION}\r\n\r\n`;
const DESCRIPTION =
  "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>" +
  "<controlURL>/ctl/IPConn</controlURL></service>";

function onTheGateway(url: string | undefined): void {
  if (url !== undefined) assert.equal(new URL(url).hostname, GATEWAY, url);
}

const NOW = 1_795_000_000_000;
const signingKey = random(32);
const signer = ed25519PublicKeyOf(signingKey);
const deviceKey = keyOf(one.publicKey);
const admission = issueAdmission(signingKey, { machineKey: deviceKey, publicKey: deviceKey, now: NOW });
const revocation = issueRevocation(signingKey, deviceKey, random(16), NOW);

const bodies = [
  encodeRefused("full"),
  encodeRestarting({ waitMs: 100, spreadMs: 1_000 }),
  encodeDialBack({ port: 51_820, token: random(16) }),
];
const stream = concat(...bodies, encodeFrame(FRAME.datagram, other.publicKey, random(48)), encodeFrame(99, random(5)));

/** Frames do not depend on how the stream was cut into chunks. */
function framesOf(chunks: readonly Uint8Array[]): string[] {
  const seen: string[] = [];
  const sink: FrameSink = {
    frame: (type, buffer, at, end) => void seen.push(`${type} ${toHex(buffer.subarray(at, end))}`),
    flush: () => {},
    malformed: () => void seen.push("malformed"),
    oversized: () => void seen.push("oversized"),
  };
  const reader = new FrameReader(sink, new TurnMemory(TURN_BUFFERS_KEPT));
  for (const chunk of chunks) reader.push([chunk]);
  return seen;
}

export function pathTargets(): readonly Target[] {
  return [
    bytes("STUN message", stun, (input) => {
      const frame = decodeFrame(input);
      if (frame !== undefined) assert(frame.attributes.every(({ value }) => value.length <= input.length));
    }),
    bytes("probe", sealedProbes, (input) => {
      const genuine = sealedProbes.findIndex((probe) => toHex(probe) === toHex(input));
      assert.deepEqual(decodeProbe(input, key), probes[genuine], "the genuine ones alone, as they were meant");
    }),
    bytes("what a datagram is", [...stun, ...sealedProbes, Uint8Array.of(4, 0, 0, 0, 1, 2, 3, 4)], (input) => {
      assert(["wireguard", "probe", "stun", "other"].includes(datagramKind(input)));
    }),
    bytes("relay's stream of frames", [stream], (input) => {
      const middle = input.length >> 1;
      const whole = framesOf([input]);
      assert.deepEqual(framesOf([input.subarray(0, middle), input.subarray(middle)]), whole);
      assert.deepEqual(framesOf(Array.from(input, (byte) => Uint8Array.of(byte))), whole);
    }),
    bytes("bodies of the relay's frames", [...bodies.map((frame) => frame.subarray(3)), welcome()], (input) => {
      void decodeRefused(input);
      void decodeRestarting(input);
      assert((decodeDialBack(input)?.port ?? 1) > 0);
      assert.match(decodeWelcome(input)?.address ?? "", /^[ -~]{0,64}$/);
    }),
    bytes("NAT-PMP answer", NAT_PMP, (input) => void decodeNatPmp(input)),
    bytes("PCP answer", [pcpAnswer], (input) => void decodePcp(input)),
    bytes("answer to a search for UPnP", [utf8(SSDP)], (input) => onTheGateway(locationOf(input, GATEWAY))),
    text("UPnP description", [DESCRIPTION], (input) => onTheGateway(controlOf(input, LOCATION, GATEWAY)?.url)),
    bytes("admission to a relay", [admission], (input) => {
      const verified = typeof verifyAdmission(input, [signer], NOW) === "object";
      assert.equal(verified, toHex(input) === toHex(admission), "the genuine one alone");
    }),
    bytes("revocation of an admission", [revocation], (input) => {
      const verified = verifyRevocation(input, [signer], NOW) !== undefined;
      assert.equal(verified, toHex(input) === toHex(revocation), "the genuine one alone");
    }),
    text("UPnP answer", SOAP, (input) => void readSoap({ status: 200, body: input })),
  ];
}

const welcome = (): Uint8Array => encodeWelcome({ pingEveryMs: 30_000, address: "203.0.113.7:51820" });
