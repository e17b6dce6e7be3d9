import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import type { Ssh } from "../sys/ssh.js";
import { type Admin, adminOverSsh } from "./admin.js";
import { wantedSysctl } from "./drift.js";
import type { GivenOptions } from "./identity.js";
import { type Inside, observationScript, parseObservation } from "./inside.js";
import type { Journal } from "./journal.js";
import { addressesOf, findContainer, hostKeyFromTasks, readContainer } from "./observe.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { type WantedFile, wantedFiles } from "./payload.js";
import { isSaved } from "./saved.js";
import { changeable, resolveSpec } from "./spec.js";
import {
  addressOf,
  fileInputsOf,
  formerAddressOf,
  hasSettledAddress,
  type OwnContainer,
  publicAddressOf,
  type View,
} from "./view.js";

/** One run against one host: the parts, the request, and the connection into the container once there is one. */
export type Session = {
  readonly parts: ProvisionParts;
  readonly request: HostRequest;
  readonly journal: Journal;
  readonly name: string;
  readonly given: GivenOptions;
  ssh: { readonly address: string; readonly connection: Ssh } | undefined;
};

/** A container that is still waited for gets a minute. */
const SSH_WAIT_MS: Millis = 60_000;
/** Once it has its address, sshd is some seconds away, on a slow host too. */
const SSH_WAIT_SETTLED_MS: Millis = 30_000;
const SSH_POLL_MS: Millis = 200;
const LOOK_TIMEOUT_MS: Millis = 30_000;

/** What Proxmox tells, without looking inside. */
export async function lookAtHost(session: Session, known?: OwnContainer): Promise<View> {
  const { parts, request, name, given } = session;
  const container =
    known === undefined
      ? await findContainer(parts.host, await parts.host.guests(), name)
      : await readContainer(parts.host, known.node, known.vmid);
  const record = await parts.book.record();
  const ownCoordinator = container === undefined ? record === undefined : container.identity.coordinator === true;
  if (container !== undefined && !ownCoordinator && record === undefined)
    throw new Failure(
      "coordinator-unknown",
      `"${name}" belongs to a coordinator that this configuration does not know`,
      {
        advice: `run it where the coordinator is configured, or start over: exitnode destroy ${name}`,
      },
    );
  return {
    hostName: request.hostName,
    spec: resolveSpec(
      name,
      container === undefined ? given : changeable(given),
      container?.identity.given ?? {},
      request.defaults,
    ),
    container,
    isSaved: container === undefined ? false : await isSaved(parts.host, container),
    placement: undefined,
    hostKey: container?.identity.hostKey,
    addresses: container?.running ? await addressesOf(parts.host, container) : [],
    awaitsIpv4: session.journal.intent !== undefined,
    inside: undefined,
    files: undefined,
    mayPassDevices: request.login === "root@pam" || parts.hostShell !== undefined,
    ownCoordinator,
    record,
    adminTokenSha256:
      ownCoordinator && container !== undefined ? parts.sha256(await parts.book.adminToken()) : undefined,
  };
}

/** Looks inside too, when the container runs and can be reached. */
export async function lookInside(session: Session, view: View): Promise<View> {
  if (view.container === undefined || view.hostKey === undefined || !hasSettledAddress(view)) return view;
  const payload = await session.parts.payload();
  const ssh = await connection(session, view);
  const every = everyFile(session, view, payload);
  const script = observationScript({
    paths: every.map(({ path }) => path),
    sysctlKeys: [...wantedSysctl(every).keys()],
    whoami: view.spec.whoami,
  });
  const ran = await ssh.run(["sh", "-s"], { input: script, timeoutMs: LOOK_TIMEOUT_MS, signal: session.parts.signal });
  if (ran.exitCode !== 0)
    throw new Failure("look-failed", `cannot look inside "${session.name}": ${ran.stderr.trim().slice(-300)}`, {
      advice: `exitnode doctor --host ${session.request.hostName}`,
    });
  return withInside(session, view, parseObservation(ran.stdout));
}

/** The files as they should be, given what was seen. */
async function withInside(session: Session, view: View, inside: Inside): Promise<View> {
  const seen: View = { ...view, inside, leadsHere: await leadsHere(session, { ...view, inside }) };
  const inputs = fileInputsOf(seen);
  if (inputs === undefined) return seen;
  return { ...seen, files: wantedFiles(await session.parts.payload(), inputs, session.parts.sha256) };
}

/** Asked only while another address is told beside the public one: an answer may take seconds. */
async function leadsHere({ parts }: Session, view: View): Promise<boolean> {
  const address = publicAddressOf(view);
  const status = view.inside?.coordinator;
  if (address === undefined || status === undefined || formerAddressOf(view) === undefined) return false;
  return (await parts.leadsTo?.(address, status.tlsFingerprint)) ?? false;
}

/** Every path that may be ours, whatever will be decided: the look is one, and comes before the decisions. */
function everyFile(session: Session, view: View, payload: Parameters<typeof wantedFiles>[0]): WantedFile[] {
  const unknownKey = `${"A".repeat(43)}=`;
  return wantedFiles(
    payload,
    {
      spec: view.spec,
      address: "192.0.2.1",
      publicAddress: undefined,
      formerAddress: undefined,
      resolvers: [],
      dataPlane: "kernel",
      ownCoordinator: { adminTokenSha256: "0".repeat(64) },
      coordinator: { urls: ["https://192.0.2.1"], publicKey: unknownKey },
    },
    session.parts.sha256,
  );
}

/** The connection into the container; made when it is first needed, and anew when the address has changed. */
export async function connection(session: Session, view: View): Promise<Ssh> {
  const address = addressOf(view);
  const { hostKey } = view;
  if (address === undefined || hostKey === undefined) throw new Error("no address or host key to connect with");
  if (session.ssh?.address === address) return session.ssh.connection;
  session.ssh?.connection.close();
  const { clock, openSsh, sshKey, signal } = session.parts;
  const target = { address, user: "root", privateKey: sshKey.privateKey, hostKey };
  const startedAt = clock.now();
  const waitMs = view.awaitsIpv4 ? SSH_WAIT_MS : SSH_WAIT_SETTLED_MS;
  for (;;) {
    try {
      session.ssh = { address, connection: await openSsh(target, signal) };
      return session.ssh.connection;
    } catch (error) {
      if (!(error instanceof Failure) || !MAY_COME.has(error.code) || clock.now() - startedAt >= waitMs) throw error;
      await clock.sleep(SSH_POLL_MS, signal);
    }
  }
}

/** What a container that boots answers with; a wrong key does not mend itself. */
const MAY_COME = new Set(["ssh-refused", "ssh-unreachable"]);

export function disconnect(session: Session): void {
  session.ssh?.connection.close();
  session.ssh = undefined;
}

/** The coordinator that this container's exit node belongs to. */
export async function adminOf(session: Session, view: View): Promise<Admin> {
  if (view.ownCoordinator) return adminOverSsh(await connection(session, view));
  if (view.record === undefined) throw new Error("no coordinator of its own and none recorded");
  return session.parts.book.admin(view.record);
}

/** The host key from the create task's log, or a Failure that says why there is no trusting this container. */
export async function findHostKey(session: Session, container: OwnContainer): Promise<string> {
  const found = await hostKeyFromTasks(session.parts.host, container.node, container.vmid);
  if (found !== undefined) return found;
  throw new Failure(
    "host-key-unknown",
    `the log of the task that made container ${container.vmid} cannot be read any more, so its SSH host key is not known`,
    {
      advice: `run create with the login that made it, or start over: exitnode destroy ${session.name}`,
    },
  );
}
