import { accessSync, constants, mkdirSync, rmSync, statSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import { dirname } from "node:path";
import { Failure } from "../../kit/failure.js";
import { SECOND } from "../../kit/time.js";
import { readCertificate } from "./certificate.js";
import { withCgroups } from "./cgroup.js";
import { joinCluster } from "./cluster.js";
import { dispatch } from "./dispatch.js";
import type { FaultAct, Faults } from "./fault.js";
import { splitOption } from "./guestconfig.js";
import { lxcRuntime } from "./lxc.js";
import { dropFromPools } from "./pool.js";
import { openPve, type Pve, WithTotal } from "./pve.js";
import { Refusal } from "./refusal.js";
import { removeRoot } from "./rootfs.js";

/** One PVE node, and where its API is served. */
export type PveNode = {
  readonly nodeName: string;
  readonly address: string;
  readonly listen: { readonly port: number } | { readonly socket: string };
  readonly stateDir: string;
  /** Templates and the containers' root directories: every folder above it must let others pass. */
  readonly storageDir: string;
  /** What goes before a command that is to run in its network; nothing for the network this process is in. */
  readonly enter: readonly string[];
};

export type PveOptions = {
  /** All members of a cluster, the one with the accounts first; or one node by itself. */
  readonly nodes: readonly PveNode[];
  readonly clusterName: string;
  readonly signal: AbortSignal;
  /** Told the MAC addresses of destroyed containers. */
  readonly released?: (mac: string) => Promise<void>;
};

/** Every 401 waits this long, as on the genuine server: time-outs of clients must exceed it. */
export const UNAUTHORIZED_DELAY_MS = 3 * SECOND;
/** Connections that say nothing are closed after this long. */
const IDLE_MS = 5 * SECOND;
const HEADER_BYTES_MAX = 8 * 1024;

/** Serves the API on real containers until the signal comes. Containers go on without it. */
export async function servePve(options: PveOptions): Promise<void> {
  const { nodes, clusterName, signal } = options;
  const released = options.released === undefined ? {} : { released: options.released };
  const members: Pve[] = [];
  for (const { nodeName, address, stateDir, storageDir, enter } of nodes) {
    mkdirSync(stateDir, { recursive: true, mode: 0o755 });
    mkdirSync(storageDir, { recursive: true, mode: 0o755 });
    for (const folder of [stateDir, storageDir]) requirePassable(folder);
    const { fingerprint } = await readCertificate(stateDir, nodeName);
    const runtime = lxcRuntime(stateDir, [...enter, ...withCgroups()]);
    const shares = members[0] === undefined ? {} : { shares: members[0] };
    const place = { nodeName, stateDir, storageDir, fingerprint, address };
    members.push(openPve({ ...place, runtime, enter, ...shares, ...released }));
  }
  if (members.length > 1) joinCluster(clusterName, members);
  for (const pve of members) dropUnfinished(pve);
  // The first last: whoever waits for its port finds the whole cluster.
  const servers: Server[] = [];
  for (const [i, { listen, nodeName, stateDir }] of [...nodes.entries()].reverse()) {
    const pve = members[i];
    if (pve === undefined) continue;
    const certificate = await readCertificate(stateDir, nodeName);
    const at = "socket" in listen ? listen : { address: pve.address, port: listen.port };
    servers.push(await listenPve(pve, { certificate, ...at, delayMs: UNAUTHORIZED_DELAY_MS }));
  }
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  await Promise.all(servers.map(closeServer));
  await Promise.all(members.map(({ tasks }) => tasks.close()));
}

export type ListenOptions = ({ readonly address: string; readonly port: number } | { readonly socket: string }) & {
  readonly certificate: { readonly key: string; readonly cert: string };
  readonly delayMs: number;
  /** For tests: what goes wrong. */
  readonly faults?: Faults;
};

export async function listenPve(pve: Pve, options: ListenOptions): Promise<Server> {
  const { certificate } = options;
  const server = createServer(
    { ...certificate, keepAliveTimeout: IDLE_MS, maxHeaderSize: HEADER_BYTES_MAX, requireHostHeader: false },
    (request, response) => void answer(pve, request, response, options),
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if ("socket" in options) {
      // Left behind by a server that was killed.
      rmSync(options.socket, { force: true });
      server.listen(options.socket, () => resolve());
    } else server.listen(options.port, options.address, () => resolve());
  });
  return server;
}

export async function closePve(pve: Pve, server: Server): Promise<void> {
  await closeServer(server);
  await pve.tasks.close();
}

async function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

async function answer(
  pve: Pve,
  request: IncomingMessage,
  response: ServerResponse,
  { delayMs, faults }: ListenOptions,
): Promise<void> {
  const [before = "/", query = ""] = (request.url ?? "/").split("?", 2);
  const extjs = before.startsWith("/api2/extjs/");
  const path = before.replace(/^\/api2\/(?:json|extjs)/, "").replace(/(.)\/+$/, "$1") || "/";
  const fault = faults?.next(`${request.method} ${path}`);
  if (fault?.kind === "meanwhile") fault.run(pve);
  else if (fault?.when === "before") return goWrong(fault, request, response);
  try {
    const value = await dispatch(pve, request, path, new URLSearchParams(query));
    const body = value instanceof WithTotal ? { data: value.data, total: value.total } : { data: value ?? null };
    if (fault !== undefined && fault.kind !== "meanwhile") goWrong(fault, request, response);
    else send(request, response, 200, "OK", extjs ? { success: 1, ...body } : body);
  } catch (error) {
    if (fault !== undefined && fault.kind !== "meanwhile") return goWrong(fault, request, response);
    const refusal = error instanceof Refusal ? error : unforeseen(error);
    if (refusal.status === 401) await new Promise((resolve) => setTimeout(resolve, delayMs).unref());
    const ending = refusal.status === 501 ? "" : "\n";
    const body = {
      data: null,
      message: `${refusal.message}${ending}`,
      ...(refusal.errors === undefined ? {} : { errors: refusal.errors }),
    };
    if (extjs && refusal.body === "json")
      send(request, response, 200, "OK", { success: 0, status: String(refusal.status), ...body });
    else send(request, response, refusal.status, refusal.message, refusal.body === "json" ? body : refusal);
  }
}

function goWrong(
  fault: Exclude<FaultAct, { kind: "meanwhile" }>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  if (fault.kind === "reset") request.socket.destroy();
  if (fault.kind === "answer")
    send(request, response, fault.status, fault.reason, new Refusal(fault.status, fault.reason, { body: "empty" }));
  // What hangs is closed with the server.
}

/** A die that nobody foresaw is a 500 with its text, there as here. */
function unforeseen(error: unknown): Refusal {
  return new Refusal(500, error instanceof Error ? error.message : String(error));
}

function send(request: IncomingMessage, response: ServerResponse, status: number, reason: string, body: object): void {
  // What is left of a body nobody wanted must be read, or the answer is lost with the connection.
  request.resume();
  const text = body instanceof Refusal ? (body.body === "text" ? body.message : "") : JSON.stringify(body);
  const date = new Date().toUTCString();
  const type = body instanceof Refusal ? "text/plain" : "application/json;charset=UTF-8";
  response.writeHead(status, reason.replace(/[^\x20-\x7e]+/g, " ").trim(), {
    "Cache-Control": "max-age=0",
    Pragma: "no-cache",
    Server: "pve-api-daemon/3.0",
    Expires: date,
    "Content-Length": Buffer.byteLength(text),
    ...(text === "" ? {} : { "Content-Type": type }),
  });
  response.end(text);
}

/**
 * A create, restore or clone that a killed server left half-way: its lock would hold the number for ever. A container
 * that was to be overwritten is as it was. Other locks stay, as there: `pct unlock` is for a person to decide.
 */
export function dropUnfinished(pve: Pve): void {
  for (const vmid of pve.guests.list()) {
    const { config } = pve.guests.read(vmid);
    if (config.options.lock !== "create") continue;
    const kept = splitOption(config.options.rootfs ?? "").volume;
    const disks = pve.storages.all.flatMap((storage) => storage.disks()).filter((disk) => disk.vmid === vmid);
    for (const { path, volid } of disks) if (volid !== kept) removeRoot(path);
    if (kept !== undefined && kept !== "") {
      pve.guests.unlock(vmid);
      continue;
    }
    for (const { path } of disks) removeRoot(dirname(path));
    dropFromPools(pve, vmid);
    pve.guests.remove(vmid);
  }
}

/** The containers' root is nobody to the host: it must be able to walk to its directory. */
function requirePassable(folder: string): void {
  accessSync(folder, constants.R_OK | constants.W_OK);
  for (let at = folder; at !== "/"; at = dirname(at))
    if ((statSync(at).mode & 0o001) === 0)
      throw new Failure(
        "lab-folder-closed",
        `${at} must be open for others to pass (mode o+x): containers live below it`,
        {
          advice: `run: chmod o+x ${at}`,
        },
      );
}
