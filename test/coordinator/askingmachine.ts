import { signInMachine, type Waiting } from "../../src/cli/machinesignin.js";
import { type KeyPair, keyPairOf } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { systemClock } from "../../src/sys/clock.js";
import { systemRandom } from "../../src/sys/random.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import type { Bench } from "./bench.js";

/** A machine that asks to be signed in: what it shows first, and how it ends. */
export type AskingMachine = {
  readonly shown: Promise<Waiting>;
  readonly done: Promise<void>;
  readonly stop: AbortController;
  readonly machineKey: KeyPair;
};

export function askingMachine(
  { coordinator }: Pick<Bench, "coordinator">,
  name: string,
  machineKey = keyPairOf(systemRandom(32)),
): AskingMachine {
  const stop = new AbortController();
  let show: (waiting: Waiting) => void = () => undefined;
  const shown = new Promise<Waiting>((resolve) => {
    show = resolve;
  });
  const done = signInMachine(
    { dial: dialWebSocket, clock: systemClock, random: systemRandom },
    {
      urls: [`https://127.0.0.1:${coordinator.port}`],
      coordinatorKey: coordinator.publicKey,
      machineKey,
      hello: {
        agentVersion: "test",
        name,
        publicKey: keyOf(keyPairOf(systemRandom(32)).publicKey),
        report: { endpoints: [], routes: [], resolvers: [] },
      },
    },
    (waiting) => show(waiting),
    stop.signal,
  );
  done.catch(() => undefined);
  return { shown, done, stop, machineKey };
}
