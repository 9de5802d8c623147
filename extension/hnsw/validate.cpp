// amvalidate: what an operator class for hnsw must consist of.
#include "extension/hnsw/hnsw.h"

extern "C" {
#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/syscache.h"
}

namespace vec {
namespace {

void complain(const char *opclass, const char *what) {
    ereport(INFO, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                   errmsg("operator class \"%s\" of access method hnsw %s", opclass, what)));
}

bool check_operators(Oid family, const char *name) {
    CatCList *list = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(family));
    bool valid = list->n_members > 0;
    if (!valid)
        complain(name, "has no operator");
    for (int i = 0; i < list->n_members; i++) {
        auto *form = reinterpret_cast<Form_pg_amop>(GETSTRUCT(&list->members[i]->tuple));
        if (form->amopstrategy == 1 && form->amoppurpose == AMOP_ORDER &&
            check_amop_signature(form->amopopr, FLOAT8OID, form->amoplefttype, form->amoprighttype))
            continue;
        complain(name, "has an operator other than 1, FOR ORDER BY, returning double precision");
        valid = false;
    }
    ReleaseCatCacheList(list);
    return valid;
}

bool check_functions(Oid family, Oid type, const char *name) {
    CatCList *list = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(family));
    bool valid = true, has_distance = false;
    for (int i = 0; i < list->n_members; i++) {
        auto *form = reinterpret_cast<Form_pg_amproc>(GETSTRUCT(&list->members[i]->tuple));
        bool right = false;
        if (form->amprocnum == 1)
            right = has_distance =
                check_amproc_signature(form->amproc, FLOAT8OID, true, 2, 2, type, type);
        else if (form->amprocnum == 2)
            right = check_amproc_signature(form->amproc, FLOAT8OID, true, 1, 1, type);
        else if (form->amprocnum == 3)
            right = check_amproc_signature(form->amproc, INTERNALOID, true, 1, 1, INTERNALOID);
        if (!right) {
            complain(name, psprintf("has a support function %d of a wrong number or signature",
                                    form->amprocnum));
            valid = false;
        }
    }
    ReleaseCatCacheList(list);
    if (!has_distance)
        complain(name, "lacks support function 1, the distance");
    return valid && has_distance;
}

} // namespace

bool hnsw_validate(Oid opclass) {
    HeapTuple tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for operator class %u", opclass);
    auto *form = reinterpret_cast<Form_pg_opclass>(GETSTRUCT(tuple));
    Oid family = form->opcfamily, type = form->opcintype;
    char *name = pstrdup(NameStr(form->opcname));
    ReleaseSysCache(tuple);
    bool operators = check_operators(family, name);
    return check_functions(family, type, name) && operators;
}

} // namespace vec
