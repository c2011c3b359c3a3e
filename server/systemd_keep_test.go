package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/vmtest"
)

// keepers has systemd start the server anew when somebody asks for it.
var keepers = map[string]string{
	"lan": `[Unit]
DefaultDependencies=no
[Service]
Type=notify
FileDescriptorStoreMax=16
ExecStart=/work/server --data /work/data --listen 127.0.0.1:0 --log-format json --lan lan0 --user daemon --dhcp off --no-tftp --no-syslog --swap
StandardOutput=null
StandardError=append:/work/error
`,
	"over": `[Unit]
DefaultDependencies=no
Wants=lan.service
Conflicts=shutdown.target
After=lan.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'touch /work/ready; until [ -e /work/go ]; do sleep .1; done; systemctl restart lan.service; touch /work/restarted; sleep 600'
`,
}

// A client of NBD keeps its connection, and with it its swap, when a real
// systemd starts the server anew.
func TestSystemdKeepsClients(t *testing.T) {
	dir, work, data := systemdFolder(t, "ip", "systemctl")
	lan, err := vmtest.NewLAN(t.Context(), "10.0.0.1/24") // the client's side
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lan.Close() })
	ns := lan.Name + "-server"
	ip := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	ip("netns", "add", ns)
	t.Cleanup(func() { ip("netns", "delete", ns) })
	ip("-n", lan.Name, "link", "add", "server0", "type", "veth", "peer", "name", "lan0", "netns", ns)
	ip("-n", lan.Name, "link", "set", "server0", "master", "br0", "up")
	ip("-n", ns, "address", "add", "10.0.0.2/24", "dev", "lan0")
	ip("-n", ns, "link", "set", "lan0", "up")
	ip("-n", ns, "link", "set", "lo", "up")
	_, mac, ok := strings.Cut(ip("-n", lan.Name, "-o", "link", "show", "br0"), "link/ether ")
	if !ok {
		t.Fatal("the client has no MAC address")
	}
	if err := os.WriteFile(filepath.Join(data, "clients.conf"), []byte("["+mac[:17]+"]\nswap = 1M\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	sd := bootSystemd(t, dir, program(t), keepers, "ip", "netns", "exec", ns)
	sd.wait(t, "ready")
	c, err := lan.Dial(t.Context(), "tcp", "10.0.0.2:10809")
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(work, "error"))
		t.Fatalf("%v: %s%s", err, sd.out.String(), log)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// The NBD protocol: the client's flags and NBD_OPT_EXPORT_NAME; then
	// NBD_CMD_WRITE and NBD_CMD_READ.
	be := binary.BigEndian
	hello := append(be.AppendUint32(be.AppendUint32(append(be.AppendUint32(nil, 3), "IHAVEOPT"...), 1), 4), "swap"...)
	request := func(kind uint16) []byte {
		b := be.AppendUint16(be.AppendUint16(be.AppendUint32(nil, 0x25609513), 0), kind)
		return be.AppendUint32(be.AppendUint64(be.AppendUint64(b, uint64(kind)), 4096), 4096)
	}
	exchange := func(b []byte, n int) []byte {
		t.Helper()
		_, err := c.Write(b)
		got := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(c, got)
		}
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(work, "error"))
			t.Fatalf("%v: %s", err, log)
		}
		return got
	}
	page := bytes.Repeat([]byte("swap"), 1024)
	exchange(hello, 18+10)
	exchange(append(request(1), page...), 16)
	if err := os.WriteFile(filepath.Join(work, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sd.wait(t, "restarted")
	if got := exchange(request(0), 16+4096); !bytes.Equal(got[16:], page) {
		t.Errorf("the swap has %q… after the restart; want what was written", got[:32])
	}
	log, err := os.ReadFile(filepath.Join(work, "error"))
	if err != nil || bytes.Count(log, []byte(`"msg":"serving"`)) != 2 || !bytes.Contains(log, []byte("goes on")) {
		t.Errorf("the server says, %v:\n%s", err, log)
	}
	// Nobody else holds the connection.
	sd.stop()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with the server, the connection has not ended: %v", err)
	}
}
