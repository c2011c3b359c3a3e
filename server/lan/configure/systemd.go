package configure

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Unit is a service of systemd that runs the server.
type Unit struct {
	Program      string   // its absolute path
	Args         []string // without the program's name
	User         string
	Data         string    // data folder, an absolute path
	Readable     []string  // files and folders below /home or /root that it reads
	Capabilities []string  // that it needs, as CAP_NET_RAW
	Firewall     string    // rules of nftables that are loaded before it starts; "" for none
	Packet       bool      // it sends ARP, for which it needs packet sockets
	Credential   [2]string // name and file of a credential of systemd that is encrypted; empty for none
}

// UnitFile is where the unit lies.
const UnitFile = "/etc/systemd/system/inetboot.service"

// UnitCheck is how systemd checks a unit. The file's name has to end in
// .service.
func UnitCheck(file string) []string {
	return []string{"systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file}
}

// Systemd writes a unit in which the server has no more than it needs: it never
// is root, and sees and does little beside its data and its network.
func Systemd(u Unit) (string, error) {
	for _, p := range []string{u.Program, u.Data} {
		if !filepath.IsAbs(p) {
			return "", fmt.Errorf("unit: %q: want an absolute path", p)
		}
	}
	if strings.Trim(u.User, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || u.User == "" {
		return "", fmt.Errorf("unit: user %q: want a name in lower case", u.User)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# By \"server configure systemd\".\n[Unit]\nDescription=InetBoot server\nWants=network-online.target\nAfter=network-online.target nss-lookup.target\n")
	line("[Service]\nType=notify\nUser=%s\nGroup=%s", u.User, u.User)
	if u.Firewall != "" {
		q, err := quoteUnit(u.Firewall)
		if err != nil {
			return "", err
		}
		line("# As root, before the sandbox.\nExecStartPre=+/usr/sbin/nft -f %s", q)
	}
	words := make([]string, 0, len(u.Args)+1)
	for _, a := range append([]string{u.Program}, u.Args...) {
		q, err := quoteUnit(a)
		if err != nil {
			return "", err
		}
		words = append(words, q)
	}
	line("ExecStart=%s", strings.Join(words, " "))
	if u.Credential[0] != "" {
		q, err := quoteUnit(u.Credential[0] + ":" + u.Credential[1])
		if err != nil {
			return "", err
		}
		line("LoadCredentialEncrypted=%s", q)
	}
	line("Restart=on-failure\nRestartSec=2\n# Connections, and blocks that are open.\nLimitNOFILE=65536\n# Clients of NBD are kept over a restart.\nFileDescriptorStoreMax=1024\n")
	caps := strings.Join(u.Capabilities, " ")
	line("# Ports below 1024, and ARP; the server gives up what it does not need itself.\nAmbientCapabilities=%s\nCapabilityBoundingSet=%s\nNoNewPrivileges=yes\n", caps, caps)
	line("ProtectSystem=strict")
	if strings.HasPrefix(u.Data, "/var/lib/") && filepath.Dir(u.Data) == "/var/lib" {
		line("StateDirectory=%s\nStateDirectoryMode=0755", filepath.Base(u.Data))
	} else {
		q, err := quoteUnit(u.Data)
		if err != nil {
			return "", err
		}
		line("ReadWritePaths=%s", q)
	}
	home := "yes"
	for _, p := range append([]string{u.Data, u.Program}, u.Readable...) {
		for _, h := range []string{"/home/", "/root/", "/run/user/"} {
			if strings.HasPrefix(p, h) {
				home = "read-only" // what is above it has to be seen
			}
		}
	}
	line("ProtectHome=%s", home)
	families := "AF_INET AF_INET6 AF_UNIX AF_NETLINK"
	if u.Packet {
		families += " AF_PACKET"
	}
	line(`PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateIPC=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=%s
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# With which it gives up capabilities.
SystemCallFilter=capset

[Install]
WantedBy=multi-user.target`, families)
	return b.String(), nil
}

// quoteUnit writes a word of systemd.service(5): specifiers and variables are
// not expanded in it.
func quoteUnit(s string) (string, error) {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return "", fmt.Errorf("unit: %q: a character that is not printable", s)
		}
	}
	s = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(s)
	if s == "" || strings.ContainsAny(s, " '\";#") {
		return `"` + s + `"`, nil
	}
	return s, nil
}
