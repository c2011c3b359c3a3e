package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/server/database"
)

// Each command does what its help says, on a file and a database.
func TestClientsCommand(t *testing.T) {
	data := t.TempDir()
	do := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"clients", "--data", data}, args...), &out, &out)
		return out.String(), err
	}
	ok := func(args ...string) string {
		t.Helper()
		out, err := do(args...)
		if err != nil {
			t.Fatalf("clients %q: %v", args, err)
		}
		return out
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if out, err := do(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("clients %q = %q, %v; want an error with %q", args, out, err, want)
		}
	}
	write := func(name, text string) string {
		t.Helper()
		p := filepath.Join(data, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write("clients.conf", "[default]\ntimezone = Europe/Vienna\n[pc0]\naddress = 10.0.0.10\n")
	ok("add", "group room-1", "env.PRINTER=lp1")
	ok("add", "52-54-00-00-00-01", "name=pc1", "group=room-1", "address=10.0.0.1")
	ok("set", "52:54:00:00:00:01", "argument=quiet", "argument=nomodeset")
	if got := ok("show", "52:54:00:00:00:01"); !strings.Contains(got, "quiet nomodeset") || !strings.Contains(got, "clients.conf:2") || !strings.Contains(got, "is known") {
		t.Errorf("show printed\n%s", got)
	}
	fails("already", "add", "52:54:00:00:00:01")
	fails("10.0.0.10 is that of", "add", "pc2", "address=10.0.0.10")
	fails("is not known", "set", "pc9", "boot=nfs")
	fails("no setting", "set", "pc0", "colour=red")
	fails("line 3", "remove", "pc0")
	fails("not been seen", "promote", "52:54:00:00:00:09")
	db, err := database.Open(t.Context(), filepath.Join(data, "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO client_seen (mac, uuid, host, address, what, first_seen, last_seen) VALUES ('52:54:00:00:00:01', '', '', '', '', 1, 2), ('52:54:00:00:00:07', '', 'new', '10.0.0.77', 'UEFI x64', 1, 2), ('52:54:00:00:00:08', '', '', '', '', 1, 2)")
		return err
	})
	if err != nil || db.Close() != nil {
		t.Fatal(err)
	}
	if got := ok("list"); !strings.Contains(got, "(not known) new UEFI x64") {
		t.Errorf("list printed\n%s", got)
	}
	if got := ok("promote", "new", "group=room-1"); got != "52:54:00:00:00:07\n" {
		t.Errorf("promote printed %q", got)
	}
	fails("known already", "promote", "52:54:00:00:00:07")
	if got := ok("promote", "--all"); got != "52:54:00:00:00:08\n" {
		t.Errorf("promote --all printed %q", got)
	}
	var rows []struct {
		Client string
		Known  bool
	}
	if err := json.Unmarshal([]byte(ok("list", "--json")), &rows); err != nil || len(rows) != 4 {
		t.Errorf("list --json: %v, %v; want four clients", rows, err)
	}
	for _, r := range rows {
		if !r.Known {
			t.Errorf("%s is not known", r.Client)
		}
	}
	fails("b.csv:3", "import", write("b.csv", "mac,boot\n52:54:00:00:00:02,nfs\n52:54:00:00:00:03,floppy\n"))
	fails("is there already, in ", "import", write("d.csv", "mac\n52:54:00:00:00:02\n525400000002\n"))
	ok("import", write("a.csv", "mac,boot\n52:54:00:00:00:02,nfs\n"))
	ok("import", "--format", "isc", write("dhcpd.conf", "host pc3 { hardware ethernet 52:54:00:00:00:03; fixed-address 10.0.0.3; }\n"))
	exported := ok("export", "--format", "json")
	if got := ok("export", "--format", "isc"); !strings.Contains(got, "host pc3 {\n  hardware ethernet 52:54:00:00:00:03;\n  fixed-address 10.0.0.3;") {
		t.Errorf("export --format isc printed\n%s", got)
	}
	// Another server takes all of it.
	file := write("all.json", exported)
	data = t.TempDir()
	ok("import", file)
	if got := ok("export", "--format", "json"); got != exported {
		t.Errorf("exported again:\n%s\nwant\n%s", got, exported)
	}
	ok("remove", "52:54:00:00:00:03")
	if got := ok("show", "52:54:00:00:00:03"); !strings.Contains(got, "is not known") {
		t.Errorf("show after remove printed\n%s", got)
	}
	fails("f.conf:2", "check", write("f.conf", "[default]\nnonsense = 1\n"))
	if got := ok("check"); !strings.Contains(got, "0 sections in the file and 7 in the database") {
		t.Errorf("check printed %q", got)
	}
}
