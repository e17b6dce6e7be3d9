import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../kit/failure.js";
import { enterExitNode } from "../provision/enter.js";
import type { Exec } from "../sys/exec.js";
import type { Ssh } from "../sys/ssh.js";
import { COORDINATOR_FILES } from "../wire/coordinatorconfig.js";
import type { Call } from "./command.js";
import { readConfig } from "./config.js";
import { coordinatorPlaces, type DaemonPlaces } from "./coordinatordaemon.js";
import { openedHost, provisionParts } from "./createparts.js";
import { noProgress } from "./createprogress.js";
import { forHost } from "./everyhost.js";
import { type Listed, listHosts } from "./listaction.js";
import { loginToMachine } from "./machinelogin.js";

/** What is done where the coordinator runs: to one's own by its files, to a service by whoever may be its user there. */
type CoordinatorWork<T> = { own(places: DaemonPlaces): Promise<T>; service(exec: Exec): Promise<T> };

type CoordinatorPlace = {
  /** "on this machine", "on root@cloud.example", `in the container of "home"`. */
  readonly where: string;
  run<T>(work: CoordinatorWork<T>): Promise<T>;
};

/** The machine of --ssh; else this one; else the container that `create` has put the coordinator into. */
export async function coordinatorPlace(call: Call): Promise<CoordinatorPlace> {
  if (call.options.ssh !== undefined)
    return {
      where: `on ${String(call.options.ssh)}`,
      run: (work) => withMachine(call, "--ssh", ({ ssh }) => work.service(ssh)),
    };
  const { env, files } = call.parts;
  const places = coordinatorPlaces(env);
  if ((await files.readText(join(places.etc, COORDINATOR_FILES.config))) !== undefined)
    return { where: "on this machine", run: (work) => here(call, places, work) };
  const container = await coordinatorContainer(call);
  return { where: `in the container of "${container.name}"`, run: (work) => inside(call, container, work) };
}

/** The machine that such an option names. */
export async function withMachine<T>(
  call: Call,
  option: "--ssh" | "--to",
  work: (machine: { readonly ssh: Ssh; readonly where: string; readonly host: string }) => Promise<T>,
): Promise<T> {
  const target =
    option === "--to"
      ? { ...call, options: { ...call.options, ssh: call.options.to, hostKey: call.options.toHostKey } }
      : call;
  const machine = await loginToMachine(target, option);
  try {
    return await work(machine);
  } finally {
    machine.ssh.close();
  }
}

/** One's own, or the service's, whose files none but its user may write. */
async function here<T>({ parts }: Call, places: DaemonPlaces, work: CoordinatorWork<T>): Promise<T> {
  const owner = await stat(places.var).then(
    ({ uid }) => uid,
    () => undefined,
  );
  const isMine = owner === undefined || owner === process.getuid?.();
  return isMine ? work.own(places) : work.service(parts.exec);
}

async function inside<T>(call: Call, { host, name }: Listed, { service }: CoordinatorWork<T>): Promise<T> {
  const { opened, request } = await openedHost(forHost(call, host.split(", ")[0] ?? host));
  try {
    return await enterExitNode(await provisionParts(call, opened, noProgress), request, name, service);
  } finally {
    opened.pve.close();
  }
}

/** Of several networks' coordinators the one that the config is for. */
async function coordinatorContainer(call: Call): Promise<Listed> {
  const { hosts, coordinator } = await readConfig(call.parts.files, call.parts.paths.config);
  const { exitNodes, unreached } = await listHosts(call, Object.keys(hosts));
  const all = exitNodes.filter((one) => one.coordinator);
  const addresses = new Set(coordinator?.adminUrls.map((url) => new URL(url).hostname));
  const [only, ...others] = all.length > 1 ? all.filter(({ address }) => addresses.has(address ?? "")) : all;
  if (only !== undefined && others.length === 0) return only;
  const silent = unreached.map(({ host, error }) => `; ${host} was not asked: ${error.message}`).join("");
  const containers = Object.keys(hosts).length === 0 ? "" : ", nor in a container of your hosts";
  throw new Failure("coordinator-elsewhere", `there is no coordinator on this machine${containers}${silent}`, {
    advice: "name the machine it is on: --ssh root@HOST",
  });
}
