import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { type Exec, localExec, mustRun } from "../../src/sys/exec.js";
import { removeNamespace } from "./removenamespace.js";

/** Network namespaces as test benches, and programs that run in them. */
export type Place = { readonly name: string; readonly exec: Exec };

export const placeOf = (name: string): Place => ({
  name,
  exec: { run: (argv, options) => localExec.run(["ip", "netns", "exec", name, ...argv], options) },
});

/** Space-separated words; for arguments with spaces there is `place.exec`. */
export const must = (place: Place, line: string, input?: string): Promise<string> =>
  mustRun(place.exec, line.split(" "), input === undefined ? {} : { input });

/** Whether an echo is answered: asked for once a second for a long while, or with `-W` once, waiting for so long. */
export const pings = async (place: Place, to: string, ...options: string[]): Promise<boolean> => {
  const patience = options.includes("-W") ? [] : ["-w", "30"];
  return (await place.exec.run(["ping", "-n", "-c", "1", ...patience, ...options, to])).exitCode === 0;
};

export function removePlaces(...names: string[]): void {
  for (const name of names) removeNamespace(name);
}

/** Two places on one wire: 10.99.7.1 and fd99:7::1, 10.99.7.2 and fd99:7::2. */
export async function makePair(left: string, right: string): Promise<[Place, Place]> {
  removePlaces(left, right);
  const places: [Place, Place] = [placeOf(left), placeOf(right)];
  for (const { name } of places) await mustRun(localExec, ["ip", "netns", "add", name]);
  await must(places[0], `ip link add wire type veth peer name wire netns ${right}`);
  for (const [i, place] of places.entries()) {
    await must(place, "ip link set lo up");
    await must(place, `ip address add 10.99.7.${i + 1}/24 dev wire`);
    await must(place, `ip address add fd99:7::${i + 1}/64 dev wire nodad`);
    await must(place, "ip link set wire up");
  }
  return places;
}

/** wireguard-go, until it listens for `wg`. Device names must differ between places: its sockets lie in one folder. */
export async function startWireguardGo(place: Place, device: string, program = "wireguard-go"): Promise<ChildProcess> {
  const child = spawn("ip", ["netns", "exec", place.name, program, device], {
    env: { ...process.env, WG_PROCESS_FOREGROUND: "1", LOG_LEVEL: "verbose" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise<void>((resolve, reject) => {
    lines.on("line", (line) => line.includes("UAPI listener started") && resolve());
    child.once("exit", (code) => reject(new Error(`wireguard-go exited ${code} before it listened`)));
  });
  await ready;
  return child;
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, "exit");
}
