import { toBase64 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import type { BinarySocket } from "../../src/sys/websocket.js";
import { issueAdmission } from "../../src/wire/admission.js";
import {
  CONTROL_PROLOGUE,
  type DeviceReport,
  decodeToCoordinator,
  encodeControl,
  type ToCoordinator,
  type ToDevice,
} from "../../src/wire/control.js";
import type { MapPeer, MapRelay } from "../../src/wire/map.js";
import { respond, type Transport } from "../../src/wire/noise.js";

type Member = {
  readonly name: string;
  readonly id: string;
  readonly publicKey: Key;
  readonly machineKey: Key;
  readonly number: number;
  report: DeviceReport;
  /** When it is to have another WireGuard key. */
  rotateAtMs?: number;
  say: ((message: ToDevice) => void) | undefined;
};

/** A coordinator that lets everybody in and tells everybody of everybody, with relays, admissions and calls. */
export class ModelNetwork {
  readonly #keys = keyPairOf(systemRandom(32));
  readonly publicKey = keyOf(this.#keys.publicKey);
  readonly #signer: Uint8Array;
  readonly #relays: readonly MapRelay[];
  readonly #members = new Map<Key, Member>();
  calls = 0;
  #seq = 0;

  constructor(relays: readonly MapRelay[], signer: Uint8Array) {
    this.#relays = relays;
    this.#signer = signer;
  }

  /** Wants another WireGuard key of the device, now. */
  rotate(name: string): void {
    for (const member of this.#members.values()) if (member.name === name) member.rotateAtMs = Date.now();
    this.#push();
  }

  serve(socket: BinarySocket): void {
    let link: Transport | undefined;
    let member: Member | undefined;
    let machineKey: Key | undefined;
    const say = (message: ToDevice): void => {
      if (link !== undefined) void socket.send(link.seal(encodeControl(message))).catch(() => undefined);
    };
    socket.listen({
      message: (bytes) => {
        if (link === undefined) {
          const ephemeral = keyPairOf(systemRandom(32));
          const answer = respond({ local: this.#keys, prologue: utf8Prologue, ephemeral, message: bytes });
          if (answer === undefined) return socket.close();
          link = answer.transport;
          machineKey = keyOf(answer.remotePublic);
          void socket.send(answer.reply);
          return;
        }
        const plaintext = link.open(bytes);
        const message = plaintext === undefined ? undefined : decodeToCoordinator(plaintext);
        if (message?.type === "hello" && machineKey !== undefined) member = this.#meet(message, machineKey, say);
        else if (message !== undefined) this.#hear(message, member, say);
      },
      closed: () => {
        if (member?.say === say) member.say = undefined;
        this.#push();
      },
    });
  }

  #meet(hello: Extract<ToCoordinator, { type: "hello" }>, machineKey: Key, say: (message: ToDevice) => void): Member {
    const { publicKey, name, report } = hello;
    const known = [...this.#members.values()].find((one) => one.machineKey === machineKey);
    // A machine with another WireGuard key is who it was.
    if (known !== undefined) this.#members.delete(known.publicKey);
    const number = known?.number ?? this.#members.size + 1;
    const member: Member = { name, publicKey, machineKey, number, id: `d${number}`, report, say };
    this.#members.set(publicKey, member);
    say({ type: "welcome", deviceId: member.id, coordinatorVersion: "test" });
    const admission = issueAdmission(this.#signer, { machineKey, publicKey, now: Date.now() });
    this.#push();
    say({ type: "admission", admission: toBase64(admission) });
    return member;
  }

  #hear(message: ToCoordinator, member: Member | undefined, say: (message: ToDevice) => void): void {
    if (message.type === "ping") say({ type: "pong", sentAt: message.sentAt });
    if (member === undefined) return;
    if (message.type === "call") {
      this.calls++;
      this.#members.get(message.to)?.say?.({ type: "call", from: member.publicKey, probe: message.probe });
    }
    if (message.type !== "report") return;
    member.report = message.report;
    this.#push();
  }

  #push(): void {
    this.#seq++;
    for (const member of this.#members.values())
      member.say?.({
        type: "map",
        map: {
          seq: this.#seq,
          self: {
            ...{ id: member.id, name: member.name, role: roleOf(member), addresses: [addressOf(member)] },
            ...(member.rotateAtMs === undefined ? {} : { rotateAtMs: member.rotateAtMs }),
          },
          ranges: [parseCidr("100.64.0.0/24")],
          mtu: 1280,
          peers: [...this.#members.values()].filter((one) => one !== member).map(peerOf),
          relays: [...this.#relays],
        },
      });
  }
}

const utf8Prologue = new TextEncoder().encode(CONTROL_PROLOGUE);
const EXITS = ["home", "cabin"];
const roleOf = ({ name }: Member) => (EXITS.includes(name) ? ("exit-node" as const) : ("device" as const));
const addressOf = ({ number }: Member) => parseIp(`100.64.0.${number}`);

function peerOf(member: Member): MapPeer {
  const { id, name, publicKey, report } = member;
  return {
    ...{ id, name, publicKey, role: roleOf(member), addresses: [addressOf(member)] },
    ...{
      routes: [...report.routes],
      endpoints: [...report.endpoints],
      resolvers: [],
      online: member.say !== undefined,
    },
    ...(report.discoveryKey === undefined ? {} : { discoveryKey: report.discoveryKey }),
    ...(report.homeRelay === undefined ? {} : { homeRelay: report.homeRelay }),
  };
}
