import YAML from "yaml";
import { userOf } from "../pve/permissions.js";
import { type ExportedContainer, networkOption, nextCommand } from "./exportcontainer.js";

/** The container as a playbook for the module community.proxmox.proxmox. */
export function toAnsible(container: ExportedContainer): string {
  const { host, name } = container;
  const user = userOf(host.login);
  const access = {
    api_host: new URL(host.url).hostname.replace(/^\[|\]$/g, ""),
    api_port: Number(new URL(host.url).port || 443),
    api_user: user,
    ...(user === host.login
      ? { api_password: "{{ proxmox_secret }}" }
      : { api_token_id: host.login.slice(user.length + 1), api_token_secret: "{{ proxmox_secret }}" }),
    validate_certs: "{{ proxmox_validate_certs | default(true) }}",
  };
  const which = { node: container.node, ...(container.vmid === undefined ? {} : { vmid: container.vmid }) };
  const play = {
    name: `Exit node ${name} on ${host.name}`,
    hosts: "localhost",
    gather_facts: false,
    // A YAML anchor would hide what a reader looks for; defaults for a module are Ansible's own word for it.
    module_defaults: { "community.proxmox.proxmox": access },
    tasks: [
      {
        name: "Make the container",
        "community.proxmox.proxmox": {
          state: "present",
          ...which,
          hostname: name,
          ostemplate: container.template,
          unprivileged: true,
          cores: container.cores,
          memory: container.memoryMib,
          swap: 0,
          disk_volume: { storage: container.disk.storage, size: container.disk.gib },
          netif: { net0: networkOption(container) },
          features: ["nesting=1"],
          onboot: true,
          tags: [...container.tags],
          ...(container.pool === undefined ? {} : { pool: container.pool }),
          pubkey: container.publicKey,
          description: container.description,
          // `create` keeps the host key in the description: what is there stays as it is.
          update: false,
          timeout: CREATE_TIMEOUT_S,
        },
      },
      {
        name: "Start it",
        "community.proxmox.proxmox": {
          state: "started",
          ...which,
          ...(container.vmid === undefined ? { hostname: name } : {}),
          timeout: CREATE_TIMEOUT_S,
        },
      },
    ],
  };
  const vmid = container.vmid ?? "VMID";
  const opening = [
    `# The exit node "${name}" on ${host.name}. Keep proxmox_secret in a vault; nothing secret is in this file.`,
    ...(container.device === undefined
      ? []
      : [`# The module passes no devices: on ${container.node}, as root: pct set ${vmid} -dev0 ${container.device}`]),
    ...(container.exists ? [] : [`# Afterwards, for what is inside: ${nextCommand(container)}`]),
  ];
  return `${opening.join("\n")}\n${YAML.stringify([play], { lineWidth: 0 })}`;
}

/** The module's own 30 s are too short for unpacking a template. */
const CREATE_TIMEOUT_S = 600;
