package mirror

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What the clock of a running machine says must not end its root: the Client's
// owner has one of its own.
func TestClock(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) }))
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	for name, tt := range map[string]struct {
		clock func() time.Time
		ok    bool
	}{
		"the machine's": {nil, true},
		"steady":        {time.Now, true},
		"far ahead":     {func() time.Time { return srv.Certificate().NotAfter.Add(time.Hour) }, false},
		"far behind":    {func() time.Time { return srv.Certificate().NotBefore.Add(-time.Hour) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New([]string{srv.URL}, Options{CA: ca, Attempts: 1, Clock: tt.clock})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Read(t.Context(), "file", nil, 10, nil); (err == nil) != tt.ok {
				t.Errorf("Read = %v; want success: %v", err, tt.ok)
			}
		})
	}
}
