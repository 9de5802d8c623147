// amvalidate: what an operator class of an access method of ours must consist of.
#include "extension/hnsw/validate.h"

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

struct OperatorClass {
    const char *method;
    const char *name;
    Oid family;
    Oid type;
};

void complain(const OperatorClass &opclass, const char *what) {
    ereport(INFO, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                   errmsg("operator class \"%s\" of access method %s %s", opclass.name,
                          opclass.method, what)));
}

bool check_operators(const OperatorClass &opclass) {
    CatCList *list = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(opclass.family));
    bool valid = list->n_members > 0;
    if (!valid)
        complain(opclass, "has no operator");
    for (int i = 0; i < list->n_members; i++) {
        auto *form = reinterpret_cast<Form_pg_amop>(GETSTRUCT(&list->members[i]->tuple));
        if (form->amopstrategy == 1 && form->amoppurpose == AMOP_ORDER &&
            check_amop_signature(form->amopopr, FLOAT8OID, form->amoplefttype, form->amoprighttype))
            continue;
        complain(opclass, "has an operator other than 1, FOR ORDER BY, returning double precision");
        valid = false;
    }
    ReleaseCatCacheList(list);
    return valid;
}

bool has_signature(Oid function, char kind, Oid type) {
    switch (kind) {
    case 'd':
        return check_amproc_signature(function, FLOAT8OID, true, 2, 2, type, type);
    case 'n':
        return check_amproc_signature(function, FLOAT8OID, true, 1, 1, type);
    default:
        return check_amproc_signature(function, INTERNALOID, true, 1, 1, INTERNALOID);
    }
}

bool check_functions(const OperatorClass &opclass, const char *kinds) {
    CatCList *list = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(opclass.family));
    int count = static_cast<int>(strlen(kinds));
    bool valid = true, has_distance = false;
    for (int i = 0; i < list->n_members; i++) {
        auto *form = reinterpret_cast<Form_pg_amproc>(GETSTRUCT(&list->members[i]->tuple));
        int number = form->amprocnum;
        bool right = number >= 1 && number <= count &&
                     has_signature(form->amproc, kinds[number - 1], opclass.type);
        if (number == 1)
            has_distance = right;
        if (!right) {
            complain(opclass,
                     psprintf("has a support function %d of a wrong number or signature", number));
            valid = false;
        }
    }
    ReleaseCatCacheList(list);
    if (!has_distance)
        complain(opclass, "lacks support function 1, the distance");
    return valid && has_distance;
}

} // namespace

bool validate_opclass(Oid oid, const char *method, const char *kinds) {
    HeapTuple tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(oid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for operator class %u", oid);
    auto *form = reinterpret_cast<Form_pg_opclass>(GETSTRUCT(tuple));
    OperatorClass opclass = {method, pstrdup(NameStr(form->opcname)), form->opcfamily,
                             form->opcintype};
    ReleaseSysCache(tuple);
    bool operators = check_operators(opclass);
    return check_functions(opclass, kinds) && operators;
}

bool hnsw_validate(Oid opclass) {
    return validate_opclass(opclass, "hnsw", "dni");
}

} // namespace vec
