import { toBase64, utf8 } from "../kit/bytes.js";
import { type KeyPair, keepImported, keyPairOf } from "../kit/crypto.js";
import { KEY_BYTES, type Key, keyOf } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { BinarySocket } from "../sys/websocket.js";
import { ADMISSION_LIFETIME_MS, issueAdmission } from "../wire/admission.js";
import {
  CONTROL_PROLOGUE,
  decodeToCoordinator,
  encodeControl,
  REFUSALS,
  type Refusal,
  SILENCE_MAX_MS,
  type ToCoordinator,
} from "../wire/control.js";
import { respond, type Transport } from "../wire/noise.js";
import { isMember } from "./device.js";
import type { SignInAnswer, SignIns } from "./identity/signins.js";
import { Link } from "./link.js";
import { Lobby, type Place } from "./lobby.js";
import type { Registry } from "./registry.js";
import type { Switchboard } from "./switchboard.js";

/** From the open socket to an accepted hello. */
export const GREETING_TIMEOUT_MS: Millis = 10_000;
/** Longest message a device has reason to send: a hello with full tables of endpoints and routes. */
export const DEVICE_MESSAGE_BYTES_MAX = 64 * 1024;
/** What a device may say in a burst, and for how long in a row; a faster one is cut off. */
export const MESSAGES_BURST = 60;
export const MESSAGES_PER_SECOND = 10;

/** A device that misses one renewal has as long again for the next. */
export const ADMISSION_RENEWAL_MS: Millis = ADMISSION_LIFETIME_MS / 2;

export type ReceptionParts = {
  readonly noiseKey: KeyPair;
  /** The seed of the admission key. */
  readonly signingKey: Uint8Array;
  /** The public half of what seals maps. */
  readonly sealKey: Uint8Array;
  readonly registry: Registry;
  readonly signIns: Pick<SignIns, "greet">;
  readonly switchboard: Switchboard;
  readonly clock: Clock;
  readonly random: Random;
  readonly version: string;
  readonly log?: Log;
};

/** Where a connection stands; each message is read according to it. */
type Stage =
  | { kind: "initiation" }
  | { kind: "hello"; transport: Transport; machineKey: Key }
  | { kind: "admitting" }
  | { kind: "member"; transport: Transport; link: Link }
  | { kind: "over" };

/** Receives devices' connections: handshake, hello, and then their messages until they leave. */
export class Reception {
  readonly #parts: ReceptionParts;
  readonly lobby = new Lobby();

  constructor(parts: ReceptionParts) {
    this.#parts = parts;
    keepImported(parts.noiseKey.privateKey);
  }

  accept(socket: BinarySocket, remote: string): void {
    const { clock, registry, switchboard, log } = this.#parts;
    const over = new AbortController();
    const greeted = new AbortController();
    let stage: Stage = { kind: "initiation" };
    let heardAt = clock.now();
    const allowance = new TokenBucket({ perSecond: MESSAGES_PER_SECOND, burst: MESSAGES_BURST });

    const end = (reason: string): void => {
      if (over.signal.aborted) return;
      log?.info("connection ended", { remote, reason, device: stage.kind === "member" ? stage.link.deviceId : "" });
      socket.terminate();
      left();
    };
    let place: Place | undefined;
    const left = (): void => {
      if (over.signal.aborted) return;
      over.abort();
      greeted.abort();
      place?.leave();
      if (stage.kind === "member") {
        const { link } = stage;
        link.closed();
        if (switchboard.leave(link)) void registry.seen(link.deviceId).catch((error) => this.#storeFailed(error));
      }
      stage = { kind: "over" };
    };
    place = this.lobby.enter(remote, () => end("too many others that are not in yet"));
    if (over.signal.aborted) return;
    clock.sleep(GREETING_TIMEOUT_MS, greeted.signal).then(
      () => end("did not greet in time"),
      () => undefined,
    );

    const receive = async (bytes: Uint8Array): Promise<void> => {
      heardAt = clock.now();
      switch (stage.kind) {
        case "initiation": {
          const response = this.#respond(bytes);
          if (response === undefined) return end("spoke no handshake for this coordinator");
          place?.promising();
          if (over.signal.aborted) return;
          stage = { kind: "hello", transport: response.transport, machineKey: keyOf(response.remotePublic) };
          await socket.send(response.reply);
          return;
        }
        case "hello": {
          const { transport, machineKey } = stage;
          const plaintext = transport.open(bytes);
          const hello = plaintext === undefined ? undefined : decodeToCoordinator(plaintext);
          if (hello?.type !== "hello") return end("did not greet");
          stage = { kind: "admitting" };
          const link = await this.#admit(socket, transport, machineKey, hello, remote);
          // Ended meanwhile: nobody is there to be a member.
          if (over.signal.aborted) return;
          greeted.abort();
          place?.leave();
          if (link === undefined) return socket.close();
          stage = { kind: "member", transport, link };
          switchboard.join(link);
          void watch(link);
          void keepAdmitted(link);
          return;
        }
        case "admitting":
          return end("spoke before it was let in");
        case "member": {
          if (stage.link.ended) return;
          if (!allowance.spend(1, heardAt)) return end(`sent more than ${MESSAGES_PER_SECOND} messages a second`);
          const plaintext = stage.transport.open(bytes);
          if (plaintext === undefined) return end("a message was altered on the way");
          const message = decodeToCoordinator(plaintext);
          if (message !== undefined) await this.#hear(stage.link, message);
          return;
        }
        case "over":
          return;
      }
    };
    const watch = async (link: Link): Promise<void> => {
      while (!over.signal.aborted) {
        await clock.sleep(heardAt + SILENCE_MAX_MS - clock.now(), over.signal).catch(() => undefined);
        if (clock.now() - heardAt >= SILENCE_MAX_MS) end("fell silent");
        else if (link.isStuck(clock.now())) end("does not read its map");
      }
    };
    // The first one follows the welcome, so that a device whose keys are new is admitted by them from the start.
    const keepAdmitted = async (link: Link): Promise<void> => {
      while (!over.signal.aborted && this.#sendAdmission(link))
        await clock.sleep(ADMISSION_RENEWAL_MS, over.signal).catch(() => undefined);
    };
    socket.listen({
      message: (bytes) => {
        receive(bytes).catch((error: unknown) => {
          this.#storeFailed(error);
          end("an error of ours");
        });
      },
      closed: left,
    });
  }

  #respond(message: Uint8Array): ReturnType<typeof respond> {
    const { noiseKey, random } = this.#parts;
    const ephemeral = keyPairOf(random(KEY_BYTES));
    keepImported(ephemeral.privateKey); // for the two times it is used
    return respond({ local: noiseKey, prologue: utf8(CONTROL_PROLOGUE), ephemeral, message });
  }

  /** The new member's link, or undefined after a refusal. */
  async #admit(
    socket: BinarySocket,
    transport: Transport,
    machineKey: Key,
    hello: Extract<ToCoordinator, { type: "hello" }>,
    remote: string,
  ): Promise<Link | undefined> {
    const { registry, clock, version, log } = this.#parts;
    const refuse = async (code: Refusal): Promise<undefined> => {
      log?.warn("device refused", { name: hello.name, code });
      await socket.send(transport.seal(encodeControl({ type: "refused", code, message: REFUSALS[code] })));
    };
    const greeted: SignInAnswer =
      hello.signIn === true ? await this.#parts.signIns.greet(machineKey, hello.name, remote) : { kind: "in" };
    if (greeted.kind === "refused") return refuse(greeted.code);
    if (greeted.kind === "wait") {
      const { kind: _, ...told } = greeted;
      await socket.send(transport.seal(encodeControl({ type: "sign-in", ...told })));
      return undefined;
    }
    const admitted = await registry.hello(machineKey, hello, remote, greeted.userId);
    if ("refusal" in admitted) return refuse(admitted.refusal);
    const { id, name } = admitted.device;
    log?.info("device connected", { device: id, name, agentVersion: hello.agentVersion });
    const speaksDelta = hello.speaks?.includes("delta") === true;
    const link = new Link(id, socket, transport, clock, { speaksDelta, haveSeq: hello.haveSeq });
    link.send({ type: "welcome", deviceId: id, coordinatorVersion: version, sealKey: keyOf(this.#parts.sealKey) });
    return link;
  }

  /** False when the device is a member no more. */
  #sendAdmission(link: Link): boolean {
    const { registry, signingKey, clock } = this.#parts;
    const device = registry.devices.get(link.deviceId);
    if (link.ended || device === undefined || !isMember(device)) return false;
    const { machineKey, publicKey } = device;
    const admission = issueAdmission(signingKey, { machineKey, publicKey, now: clock.wall() });
    link.send({ type: "admission", admission: toBase64(admission) });
    return true;
  }

  async #hear(link: Link, message: ToCoordinator): Promise<void> {
    switch (message.type) {
      case "ping":
        return link.send({ type: "pong", sentAt: message.sentAt });
      case "pong":
        return link.pong(message.sentAt);
      case "report":
        if (await this.#parts.registry.report(link.deviceId, message.report))
          this.#parts.switchboard.changed(link.deviceId);
        return;
      case "resync":
        return this.#parts.switchboard.resync(link.deviceId);
      case "applied":
        return link.applied(message.seq);
      case "call":
        return this.#parts.switchboard.call(link.deviceId, message.to, message.probe);
      case "hello":
        return; // once is enough
    }
  }

  #storeFailed(error: unknown): void {
    this.#parts.log?.error("the store failed", { reason: error instanceof Error ? error.message : String(error) });
  }
}
