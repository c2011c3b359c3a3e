package push

import (
	"context"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"os"
	"testing"
	"time"
)

type nop struct{}

func (nop) Begin(string, int64) {}
func (nop) Add(int64)           {}
func (nop) End()                {}
func (nop) Note(string)         {}
func TestProf(t *testing.T) {
	T := os.Getenv("TT")
	if T == "" {
		t.Skip()
	}
	os.RemoveAll("/dev/shm/st3")
	st, err := store.NewDir("/dev/shm/st3", true)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.Load(T + "/conf/inetboot/keys")
	if err != nil {
		t.Fatal(err)
	}
	if err := Init(context.Background(), st, k, "x", time.Hour); err != nil {
		t.Fatal(err)
	}
	r, err := Push(context.Background(), st, k, Options{Source: T + "/deb", Name: "d", Version: "1", Program: T + "/blockfs", Level: lvl()}, nop{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.2fs %d MB/s sent %d", r.Seconds, int(float64(r.Plain)/1e6/r.Seconds), r.Sent)
}
func lvl() int {
	if os.Getenv("LV") == "1" {
		return 1
	}
	return 3
}
