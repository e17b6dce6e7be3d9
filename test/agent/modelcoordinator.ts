import { utf8 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import type { BinarySocket, Dial, SocketListener } from "../../src/sys/websocket.js";
import {
  CONTROL_PROLOGUE,
  type DeviceReport,
  decodeToCoordinator,
  encodeControl,
  type Refusal,
  type ToCoordinator,
  type ToDevice,
} from "../../src/wire/control.js";
import type { NetworkMap } from "../../src/wire/map.js";
import { respond, type Transport } from "../../src/wire/noise.js";

/** Two ends of a wire within this process; what one sends is with the other in the same turn of the event loop. */
export function socketPair(): [BinarySocket, BinarySocket] {
  const ends = [new End(), new End()] as const;
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return [...ends];
}

class End implements BinarySocket {
  other: End | undefined;
  #listener: SocketListener | undefined;
  #backlog: Uint8Array[] = [];
  #closed = false;

  async send(message: Uint8Array): Promise<void> {
    if (this.#closed) throw new Error("closed");
    this.other?.take(message);
  }
  take(message: Uint8Array): void {
    if (this.#listener === undefined) this.#backlog.push(message);
    else this.#listener.message(message);
  }
  listen(listener: SocketListener): void {
    this.#listener = listener;
    for (const message of this.#backlog.splice(0)) listener.message(message);
  }
  close(): void {
    this.end();
    this.other?.end();
  }
  terminate(): void {
    this.close();
  }
  end(): void {
    if (this.#closed) return;
    this.#closed = true;
    queueMicrotask(() => this.#listener?.closed("it was closed by the other end"));
  }
}

/** A coordinator that lets everybody in, or nobody, or is away. */
export class ModelCoordinator {
  readonly #keys = keyPairOf(systemRandom(32));
  readonly publicKey = keyOf(this.#keys.publicKey);
  readonly #links = new Set<{ socket: BinarySocket; transport: Transport }>();
  readonly hellos: Extract<ToCoordinator, { type: "hello" }>[] = [];
  readonly reports: DeviceReport[] = [];
  readonly calls: Extract<ToCoordinator, { type: "call" }>[] = [];
  /** Given to whoever is let in. */
  admission: string | undefined;
  dials = 0;
  away = false;
  refusal: Refusal | undefined;
  map: NetworkMap;

  constructor(map: NetworkMap) {
    this.map = map;
  }

  readonly dial: Dial = async (url) => {
    this.dials++;
    if (this.away) throw new Failure("coordinator-unreachable", `${url}: nothing listens there`);
    const [near, far] = socketPair();
    this.#serve(far);
    return near;
  };

  /** Every connected device gets the new map. */
  push(map: NetworkMap): void {
    this.map = map;
    for (const link of this.#links) this.#send(link, { type: "map", map });
  }

  leave(): void {
    this.away = true;
    for (const { socket } of this.#links) socket.close();
  }

  #serve(socket: BinarySocket): void {
    let link: { socket: BinarySocket; transport: Transport } | undefined;
    socket.listen({
      message: (bytes) => {
        if (link === undefined) {
          const ephemeral = keyPairOf(systemRandom(32));
          const answer = respond({ local: this.#keys, prologue: utf8(CONTROL_PROLOGUE), ephemeral, message: bytes });
          if (answer === undefined) return socket.close();
          link = { socket, transport: answer.transport };
          this.#links.add(link);
          void socket.send(answer.reply);
          return;
        }
        const plaintext = link.transport.open(bytes);
        const message = plaintext === undefined ? undefined : decodeToCoordinator(plaintext);
        if (message !== undefined) this.#answer(link, message);
      },
      closed: () => {
        if (link !== undefined) this.#links.delete(link);
      },
    });
  }

  #answer(link: { socket: BinarySocket; transport: Transport }, message: ToCoordinator): void {
    if (message.type === "ping") this.#send(link, { type: "pong", sentAt: message.sentAt });
    if (message.type === "call") this.calls.push(message);
    if (message.type === "report") this.reports.push(message.report);
    if (message.type !== "hello") return;
    this.hellos.push(message);
    if (this.refusal !== undefined) {
      this.#send(link, { type: "refused", code: this.refusal, message: "this device is not let in" });
      return;
    }
    this.#send(link, { type: "welcome", deviceId: "d1", coordinatorVersion: "test" });
    this.#send(link, { type: "map", map: this.map });
    if (this.admission !== undefined) this.#send(link, { type: "admission", admission: this.admission });
  }

  #send({ socket, transport }: { socket: BinarySocket; transport: Transport }, message: ToDevice): void {
    void socket.send(transport.seal(encodeControl(message)));
  }
}
