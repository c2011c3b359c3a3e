package store_test

import (
	"os"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/store/storetest"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

func TestMain(m *testing.M) { os.Exit(testtree.Main(m)) }

func TestHTTP(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		url, tokenFile, _ := testtree.Server(t)
		token, err := os.ReadFile(tokenFile)
		if err != nil {
			t.Fatal(err)
		}
		st, err := store.NewHTTP(url, strings.TrimSpace(string(token)))
		if err != nil {
			t.Fatal(err)
		}
		return st
	})
}
