import { openSession } from "../agent/controlsession.js";
import type { KeyPair } from "../kit/crypto.js";
import { asFailure, Failure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { Dial } from "../sys/websocket.js";
import {
  CONTROL_PATH,
  CONTROL_VERSION,
  MESSAGE_BYTES_MAX,
  SIGN_IN_POLL_MS,
  type ToCoordinator,
  type ToDevice,
} from "../wire/control.js";

/** From the first question to the person's word, with some minutes to find the browser. */
const SIGN_IN_DEADLINE_MS: Millis = 30 * MINUTE;
const DIAL_TIMEOUT_MS: Millis = 10 * SECOND;
const ANSWER_TIMEOUT_MS: Millis = 15 * SECOND;

export type SignInParts = { readonly dial: Dial; readonly clock: Clock; readonly random: Random };

export type SignInWant = {
  /** Tried in turn. */
  readonly urls: readonly string[];
  readonly coordinatorKey: Key;
  readonly machineKey: KeyPair;
  readonly hello: Omit<Extract<ToCoordinator, { type: "hello" }>, "type" | "version" | "signIn">;
};

/** What the person has to open and compare. */
export type Waiting = Omit<Extract<ToDevice, { type: "sign-in" }>, "type">;
type Heard = Extract<ToDevice, { type: "sign-in" | "welcome" | "refused" }>;

/**
 * Asks the coordinator to let this machine in by a person's word, until somebody has given it: then the machine is a
 * member. `show` is called with every new code.
 */
export async function signInMachine(
  parts: SignInParts,
  want: SignInWant,
  show: (waiting: Waiting) => void,
  signal: AbortSignal,
): Promise<void> {
  const { clock } = parts;
  const deadline = clock.now() + SIGN_IN_DEADLINE_MS;
  let shown: string | undefined;
  while (clock.now() < deadline) {
    const heard = await askAll(parts, want, signal).catch((error: unknown) => {
      // Once it has answered, it may be away for a while.
      if (shown === undefined || signal.aborted) throw error;
      return undefined;
    });
    if (heard?.type === "welcome") return;
    if (heard?.type === "refused") throw new Failure(heard.code, heard.message, { advice: "exitnode up --login URL" });
    if (heard !== undefined && heard.code !== shown) {
      const { type: _, ...waiting } = heard;
      show(waiting);
      shown = heard.code;
    }
    await clock.sleep(SIGN_IN_POLL_MS, signal);
  }
  throw new Failure(
    "sign-in-late",
    `nobody has signed this machine in within ${SIGN_IN_DEADLINE_MS / MINUTE} minutes`,
    {
      advice: "exitnode up --login URL",
    },
  );
}

async function askAll(parts: SignInParts, want: SignInWant, signal: AbortSignal): Promise<Heard> {
  const reasons: string[] = [];
  for (const url of want.urls) {
    try {
      return await ask(parts, want, url, signal);
    } catch (error) {
      signal.throwIfAborted();
      reasons.push(`${url}: ${asFailure(error).message}`);
    }
  }
  throw new Failure("coordinator-unreachable", `the coordinator does not answer: ${reasons.join("; ")}`, {
    advice: "check that this machine is online, and that the coordinator's key is the one that its administrator gave",
  });
}

async function ask(parts: SignInParts, want: SignInWant, url: string, signal: AbortSignal): Promise<Heard> {
  const address = new URL(CONTROL_PATH, url);
  address.protocol = "wss:";
  const socket = await parts.dial(address.href, {
    messageBytesMax: MESSAGE_BYTES_MAX,
    timeoutMs: DIAL_TIMEOUT_MS,
    signal,
  });
  let hear: (message: ToDevice) => void = () => undefined;
  const heard = new Promise<Heard>((resolve) => {
    hear = (message) => {
      if (message.type === "welcome" || message.type === "sign-in" || message.type === "refused") resolve(message);
    };
  });
  const { machineKey, coordinatorKey, hello } = want;
  const abandon = (): void => socket.terminate();
  signal.addEventListener("abort", abandon, { once: true });
  const settled = new AbortController();
  try {
    const session = await openSession({ ...parts, socket }, machineKey, coordinatorKey, (message) => hear(message));
    // It speaks for the agent, which changes keys when the coordinator wants it.
    session.send({ ...hello, speaks: ["rotate"], type: "hello", version: CONTROL_VERSION, signIn: true });
    const late = parts.clock.sleep(ANSWER_TIMEOUT_MS, settled.signal).then(
      () => "it did not answer in time",
      () => "",
    );
    const first = await Promise.race([heard, session.ended, late]);
    if (typeof first === "string") throw new Failure("coordinator-unreachable", first);
    session.end("signed in, or not yet");
    return first;
  } finally {
    settled.abort();
    signal.removeEventListener("abort", abandon);
    socket.close();
  }
}
