/** Which words of Proxmox VE mean which of our codes, and what a person does then. */

/** A row: words → code. `$1` in message and advice is what the first group caught. */
export type Row = {
  readonly match: RegExp;
  readonly code: string;
  /** 500 when left out. */
  readonly status?: number;
  /** Instead of Proxmox's own words. */
  readonly message?: string;
  readonly advice?: string;
};

export const KNOWN: readonly Row[] = [
  {
    match: /(?:CT|VM) (\d+) already exists/,
    code: "vmid-taken",
    advice: "run the command again: it takes the next free id",
  },
  {
    match: /Configuration file '[^']*\/(\d+)\.conf' does not exist/,
    code: "container-unknown",
    message: "there is no container $1",
    advice: "exitnode list",
  },
  {
    match: /^storage '([^']+)' does not exist/,
    code: "storage-unknown",
    advice: "exitnode host check <name> lists the storages",
  },
  { match: /^(?:CT|VM) (\d+) already running/, code: "container-running" },
  {
    match: /^unable to destroy CT (\d+) - container is running/,
    code: "container-running",
    advice: "stop container $1 first",
  },
  { match: /overwrite running container/, code: "container-running", advice: "stop the container first" },
  {
    match: /^Cannot do full clones on a running container/,
    code: "container-running",
    advice: "stop the container first, or clone one of its snapshots",
  },
  {
    match: /^Linked clone feature for '([^']+)' is not available/,
    code: "clone-unsupported",
    advice: "clone it in full",
  },
  { match: /^you can't convert a CT to template if the CT is running/, code: "container-running" },
  { match: /^unable to create template, because CT contains snapshots/, code: "snapshots-in-the-way" },
  { match: /^(?:CT|VM) (\d+) not running/, code: "container-stopped" },
  {
    match: /CT (\d+) - protection mode enabled/,
    code: "container-protected",
    advice: "on the Proxmox host: pct set $1 --protection 0",
  },
  {
    match: /(?:CT|VM) is locked \(([^)]*)\)/,
    code: "container-locked",
    advice: "wait for the $1 to end; if none is running, on the Proxmox host: pct unlock <vmid>",
  },
  {
    match: /^detected modified configuration/,
    code: "config-changed",
    advice: "run the command again: it reads the config anew",
  },
  {
    match: /^SSH public key validation error/,
    code: "ssh-key-invalid",
    message: "the SSH public key is not one OpenSSH reads",
    advice: "give one line as in ~/.ssh/id_ed25519.pub",
  },
  {
    match: /^Only root can pass arbitrary filesystem paths/,
    code: "template-invalid",
    message: "the template must be named as storage:vztmpl/file.tar.zst",
  },
  {
    match: /^hostname lookup '([^']*)' failed/,
    code: "pve-node-unknown",
    message: 'there is no PVE node "$1"',
    advice: "exitnode host check <name> lists the PVE nodes",
  },
  { match: /^no options specified/, code: "nothing-to-change" },
  {
    match: /^unable to modify read-only option: '([^']+)'/,
    code: "option-read-only",
    advice: "the option can only be set when the container is made",
  },
  {
    match: /^Device (\S+) does not exist/,
    code: "device-missing",
    message: "the Proxmox host has no device $1",
    advice: "on the Proxmox host: modprobe tun",
  },
  { match: /^create role failed: role '([^']+)' already exists/, code: "role-exists" },
  { match: /^create user failed: user '([^']+)' already exists/, code: "user-exists" },
  { match: /role '([^']+)' does not exist/, code: "role-unknown", advice: "on the Proxmox host: pveum role list" },
  {
    match: /user '([^']+)' does not exist|no such user \('([^']+)'\)/,
    code: "user-unknown",
    advice: "on the Proxmox host: pveum user list",
  },
  { match: /^no such token '([^']+)' for user/, code: "token-unknown" },
  { match: /snapshot name '([^']+)' \(reserved name\)/, code: "snapshot-name-invalid" },
  {
    match: /^storage '([^']+)' does not support '([^']+)' content/,
    code: "storage-content-refused",
    advice: "on the Proxmox host: pvesm set $1 --content …,$2",
  },
  { match: /^unable to shrink disk size/, code: "disk-shrink-refused" },
  {
    match: /got timeout|[Tt]imeout while waiting|can't lock file/,
    code: "host-busy",
    advice: "wait for other tasks on the host to end, then run the command again",
  },
  {
    match: /unable to parse directory volume name '([^']+)'/,
    code: "volume-broken",
    advice: "the config names a volume that was never made: on the Proxmox host, set rootfs back to the old volume",
  },
  { match: /at character offset \d+/, code: "request-malformed" },
  { match: /^Bad Request/, code: "request-malformed", status: 400 },
  { match: /too large/, code: "request-too-large", status: 501 },
  {
    match: /not implemented|not available|not supported|Unexpected content/,
    code: "call-unknown",
    status: 501,
    advice: "exitnode host check <name>: Proxmox VE 8.4 or newer is needed",
  },
  { match: /Content-Type/, code: "request-malformed", status: 506 },
];

/** Of tasks alone; looked at first. */
export const KNOWN_IN_TASKS: readonly Row[] = [
  {
    match: /volume '([^']+:vztmpl\/[^']+)' does not exist/,
    code: "template-missing",
    advice: "exitnode appliance upload",
  },
  {
    match: /^checksum mismatch/,
    code: "checksum-mismatch",
    advice: "the file was changed on its way: upload it again",
  },
  {
    match:
      /not enough space|No space left|Disk quota exceeded|image size is too large|out of space|insufficient free space/i,
    code: "storage-full",
    advice: "free some space on the storage, or choose another one with --storage",
  },
  { match: /snapshot name '([^']+)' already used/, code: "snapshot-exists" },
  { match: /snapshot '([^']+)' does not exist/, code: "snapshot-unknown" },
  {
    match: /snapshot feature is not available/,
    code: "snapshot-unsupported",
    advice: "use a storage with snapshots (ZFS, LVM-thin, Btrfs), or a backup",
  },
  {
    match: /can't use storage '([^']+)' for backups|wrong content type/,
    code: "storage-content-refused",
    advice: "on the Proxmox host: pvesm set $1 --content …,backup",
  },
  {
    match: /^can't rollback, '([^']+)' is not most recent snapshot/,
    code: "snapshot-not-newest",
    advice: "ZFS goes back to the newest snapshot only: delete the ones after $1 first",
  },
  {
    match: /unable to rollback to incomplete snapshot/,
    code: "snapshot-incomplete",
    advice: "delete the snapshot in the Proxmox GUI: it was cut off while it was made",
  },
  {
    match: /volume '([^']+:backup\/[^']+)' does not exist/,
    code: "backup-missing",
  },
  {
    match: /cannot mount subvol snapshots for storage type/,
    code: "backup-mode-refused",
    advice: "back up in suspend or stop mode",
  },
  {
    match: /^job errors/,
    code: "backup-failed",
    advice: "its log above says why; a storage for backups needs room: exitnode host check <name>",
  },
  { match: /refusing to override existing file/, code: "template-exists" },
  { match: /^download failed/, code: "download-failed" },
  { match: /cannot remove protected volume/, code: "volume-protected" },
  { match: /you can't start a CT if it's a template/, code: "container-is-template" },
  {
    match: /received interrupt/,
    code: "task-cancelled",
    advice: "somebody stopped the task on the host: run the command again",
  },
  {
    match: /Permission check failed/,
    code: "permission-missing",
    advice: "exitnode host check <name> says which privileges are missing",
  },
  {
    match: /bridge '([^']+)' does not exist/,
    code: "bridge-unknown",
    advice: "exitnode host check <name> lists the bridges",
  },
];
