import type { IncomingMessage } from "node:http";
import { readBody } from "./body.js";
import { requireCheck } from "./check.js";
import { memberNamed } from "./cluster.js";
import { words } from "./format.js";
import { authenticate, refuseToken } from "./login.js";
import { findMethod, type Method } from "./method.js";
import { accessMethods } from "./methods/access.js";
import { backupMethods } from "./methods/backup.js";
import { cloneMethods } from "./methods/clone.js";
import { clusterMethods } from "./methods/cluster.js";
import { configMethods } from "./methods/config.js";
import { firewallMethods } from "./methods/firewall.js";
import { guestMethods } from "./methods/guest.js";
import { lxcMethods } from "./methods/lxc.js";
import { nodeMethods } from "./methods/node.js";
import { poolMethods } from "./methods/pool.js";
import { snapshotMethods } from "./methods/snapshot.js";
import { storageMethods } from "./methods/storage.js";
import { taskMethods } from "./methods/task.js";
import { userMethods } from "./methods/user.js";
import { type Caller, may } from "./permission.js";
import { checkParams, type Raw } from "./property.js";
import type { Call, Handlers, Pve } from "./pve.js";
import { badParameters, failed, Refusal } from "./refusal.js";
import { knowsPrivilege, propertiesIn } from "./release.js";
import { importUpload, receiveUpload } from "./upload.js";

const HANDLERS: Handlers = {
  ...accessMethods,
  ...userMethods,
  ...clusterMethods,
  ...nodeMethods,
  ...lxcMethods,
  ...guestMethods,
  ...snapshotMethods,
  ...cloneMethods,
  ...backupMethods,
  ...configMethods,
  ...firewallMethods,
  ...storageMethods,
  ...taskMethods,
  ...poolMethods,
};
const UPLOAD = "POST /nodes/{node}/storage/{storage}/upload";
/** Nobody, for the few calls that come before a login. */
const NOBODY: Caller = { user: "" };

/** One request, from its head to the value its answer holds. Refusals are thrown. */
export async function dispatch(
  pve: Pve,
  request: IncomingMessage,
  path: string,
  query: URLSearchParams,
): Promise<unknown> {
  const verb = request.method ?? "GET";
  if (!/^(?:GET|POST|PUT|DELETE)$/.test(verb))
    throw new Refusal(501, `method '${verb}' not available`, { body: "empty" });
  if (request.headers["transfer-encoding"] !== undefined)
    throw new Refusal(501, "chunked transfer encoding not supported", { body: "text" });
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map(decode);
  const found = findMethod(verb, parts);
  const caller = found?.method.world === true ? NOBODY : authenticate(pve, request, verb);
  const length = Number(request.headers["content-length"] ?? 0);
  if ((verb === "GET" || verb === "DELETE") && length > 0)
    throw new Refusal(501, `Unexpected content for method '${verb}'`, { body: "text" });
  if (found?.method.name === UPLOAD) return upload(pve, caller, request, found.method, found.uri);
  const given: Record<string, Raw> = { ...pairs(query), ...(await readBody(request, length)) };
  const handler = found === undefined ? undefined : HANDLERS[found.method.name];
  if (found === undefined || handler === undefined) throw new Refusal(501, `Method '${verb} ${path}' not implemented`);
  if (found.method.noToken && !found.method.world) refuseToken(caller, path);
  return handler(admit(pve, caller, found.method, { ...given, ...found.uri }));
}

/** Privileges, then the node, then the parameters: the order decides which refusal is heard. */
function admit(pve: Pve, caller: Caller, method: Method, given: Record<string, Raw>): Call {
  const texts = Object.fromEntries(Object.entries(given).map(([key, value]) => [key, String(value)]));
  if (method.check !== undefined) requireCheck(pve.accounts, caller, method.check, texts);
  const node = texts.node;
  const member = method.path[0] !== "nodes" || node === undefined ? pve : memberNamed(pve, node);
  if (member === undefined)
    throw failed(
      `hostname lookup '${node}' failed - failed to get address info for: ${node}: Name or service not known`,
    );
  const { params, errors } = checkParams(propertiesIn(member.release, method), given);
  if (Object.keys(errors).length > 0) throw badParameters(errors);
  requirePrivileges(member, params);
  return { pve: member, caller, params };
}

function requirePrivileges({ release }: Pve, { privs }: Call["params"]): void {
  const wrong = words(String(privs ?? "")).find((privilege) => !knowsPrivilege(release, privilege));
  if (wrong !== undefined) throw badParameters({ privs: `invalid format - invalid privilege '${wrong}'\n` });
}

async function upload(
  pve: Pve,
  caller: Caller,
  request: IncomingMessage,
  method: Method,
  uri: Record<string, string>,
): Promise<unknown> {
  const path = `/storage/${uri.storage}`;
  // Checked before the body is read, and answered without one.
  if (!may(pve.accounts, caller, path, "Datastore.AllocateTemplate"))
    throw new Refusal(403, `Permission check failed (${path}, Datastore.AllocateTemplate)`, { body: "empty" });
  const member = memberNamed(pve, uri.node ?? "") ?? pve;
  member.storages.get(uri.storage ?? "");
  const received = await receiveUpload(request, member.storages.scratch);
  return importUpload(
    admit(pve, caller, method, { ...received.fields, filename: received.filename, ...uri }),
    received,
  );
}

function pairs(query: URLSearchParams): Record<string, Raw> {
  return Object.fromEntries(
    [...new Set(query.keys())].map((key) => {
      const values = query.getAll(key);
      return [key, values.length > 1 ? values : (values[0] ?? "")];
    }),
  );
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
