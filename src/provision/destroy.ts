import { Failure } from "../kit/failure.js";
import { missing, needsForTemplateRemoval, refused } from "../pve/permissions.js";
import { isOurTemplate } from "./identity.js";
import { Journal } from "./journal.js";
import { addressesOf, findContainer, settleIntent } from "./observe.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { removeContainer } from "./power.js";
import { removeSave } from "./save.js";
import { parseName } from "./spec.js";
import type { OwnContainer } from "./view.js";

/** What taking an exit node away comes to, before and after it is done. */
export type Destroyed = {
  readonly name: string;
  readonly vmid: number | undefined;
  readonly pveNode: string | undefined;
  /** The coordinator ran in the container and is gone with it. */
  readonly coordinator: "gone" | "told" | "not-told";
  /** Templates of ours that were removed. */
  readonly templates: readonly string[];
};
export type Doomed = {
  readonly container: OwnContainer | undefined;
  readonly templates: readonly DoomedTemplate[];
  readonly words: readonly string[];
};
export type DoomedTemplate = { readonly node: string; readonly storage: string; readonly volid: string };

/** What there is to take away, in words for the question; refused when the login may not take all of it. */
export async function findDoomed(
  parts: ProvisionParts,
  request: HostRequest,
  name: string,
  options: { readonly templates: boolean } = { templates: false },
): Promise<Doomed> {
  parseName(name);
  const { host, clock, signal } = parts;
  const journal = await Journal.open(parts.files, parts.journalFolder, request.hostName, name);
  let container = await findContainer(host, await host.guests(), name);
  if (container === undefined && journal.intent !== undefined)
    container = await settleIntent(host, clock, journal.intent, { showWithinMs: 0, signal });
  const words =
    container === undefined
      ? []
      : [
          `container ${container.vmid} "${name}" on ${container.node}, with its disk`,
          ...(container.identity.coordinator === true
            ? ["the coordinator in it: every device of its network has to join anew"]
            : []),
        ];
  const templates = options.templates
    ? await findTemplates(parts, request, name, container?.node ?? request.pveNode)
    : [];
  return { container, templates, words: [...words, ...templates.map(({ volid }) => `the template ${volid}`)] };
}

/** Takes away the container, what the coordinator knows of it, our journal, and the templates that were found. */
export async function destroy(
  parts: ProvisionParts,
  request: HostRequest,
  name: string,
  { container, templates }: Doomed,
): Promise<Destroyed> {
  const { host, progress, book } = parts;
  const journal = await Journal.open(parts.files, parts.journalFolder, request.hostName, name);
  const record = await book.record();
  const own = container?.identity.coordinator === true;
  const addresses = container === undefined ? [] : await knownAddresses(parts, container);
  const known = own || record === undefined ? undefined : await forgetRecord(parts, name);
  const lost = container === undefined && record !== undefined && journal.heldCoordinator && known === "not-told";
  if (lost) await book.drop();
  // What is left of a run that was killed: the journal goes last.
  const unfinished = !journal.isEmpty;
  if (container === undefined && known !== "told" && !unfinished)
    throw new Failure("exit-node-unknown", `there is no exit node "${name}" on ${request.hostName}`, {
      advice: "exitnode list",
    });
  const save = container?.identity.save;
  if (container !== undefined && save !== undefined)
    await progress.step("remove what an upgrade kept", () => removeSave({ parts }, container, save));
  if (container !== undefined)
    await progress.step(`take away container ${container.vmid}`, () =>
      removeContainer(parts, container.node, container.vmid),
    );
  // Another coordinator's record stays, even when this container had one of its own.
  const ours = record?.adminUrls.some((url) => addresses.includes(new URL(url).hostname.replace(/^\[|\]$/g, "")));
  if (own && ours === true) await book.drop();
  for (const { node, storage, volid } of templates)
    await progress.step(`remove the template ${volid}`, async () =>
      host.waitTask(await host.deleteVolume(node, storage, volid)),
    );
  await journal.remove();
  host.close();
  return {
    name,
    vmid: container?.vmid,
    pveNode: container?.node,
    coordinator: own || lost ? "gone" : (known ?? "not-told"),
    templates: templates.map(({ volid }) => volid),
  };
}

async function knownAddresses(parts: ProvisionParts, container: OwnContainer): Promise<readonly string[]> {
  const { publicAddress, formerAddress } = container.identity;
  const now = container.running ? await addressesOf(parts.host, container) : [];
  return [...now, publicAddress, formerAddress].filter((address) => address !== undefined);
}

/** "not-told" when the coordinator is away: the container goes anyway, and its record can be revoked later. */
async function forgetRecord(parts: ProvisionParts, name: string): Promise<"told" | "not-told"> {
  const record = await parts.book.record();
  if (record === undefined) return "not-told";
  try {
    const admin = await parts.book.admin(record);
    const known = (await admin.devices()).find((device) => device.name === name && device.role === "exit-node");
    if (known === undefined) return "not-told";
    await admin.forget(known.id);
    return "told";
  } catch (error) {
    if (error instanceof Failure && error.code === "coordinator-unreachable") return "not-told";
    throw error;
  }
}

/**
 * On the container's node; when an earlier run took that away, on the first there is: templates went there too. The
 * right to remove them is looked for now: a container that is gone does not come back when its template cannot go.
 */
async function findTemplates(
  { host }: ProvisionParts,
  request: HostRequest,
  name: string,
  known: string | undefined,
): Promise<DoomedTemplate[]> {
  const node = known ?? (await host.nodes()).find(({ online }) => online)?.name;
  if (node === undefined) return [];
  const found: DoomedTemplate[] = [];
  for (const { id, content } of await host.storages(node)) {
    if (!content.includes("vztmpl")) continue;
    for (const { volid } of await host.templates(node, id))
      if (isOurTemplate(volid)) found.push({ node, storage: id, volid });
  }
  const needs = [...new Set(found.map(({ storage }) => storage))].flatMap(needsForTemplateRemoval);
  if (needs.length === 0) return found;
  const lacking = missing(await host.permissions(needs.map(({ path }) => path)), needs);
  if (lacking.length === 0) return found;
  throw refused(request.login, lacking, `without its templates: exitnode destroy ${name} --host ${request.hostName}`);
}
